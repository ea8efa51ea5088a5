"""The serving engine: answers requests for all adapters in shared batches, while adapters are loaded and unloaded.

A request is admitted and queued on the event loop. A device thread tokenises it, computes it in a batch, and sends
the results to the event loop, which never waits for a device thread. A request is answered by the versions that
were in service when it arrived.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from typing_extensions import override

from onetrunk.adapters.methods.bank import Tier, Usage
from onetrunk.core.backbones.device import name_of
from onetrunk.core.errors import OneTrunkError, UsageError
from onetrunk.core.inference.predictor import OneTrunk
from onetrunk.core.inference.registry import ServedName
from onetrunk.core.serving.engine.adapter_loader import AdapterLoader
from onetrunk.core.serving.engine.admission import AdmissionControl, work_items
from onetrunk.core.serving.engine.backend import ServingBackend
from onetrunk.core.serving.engine.errors import OverTime, QueueFull, ShuttingDown, UnknownName
from onetrunk.core.serving.engine.events import EventSink
from onetrunk.core.serving.engine.executor import Executor
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import (
    PendingRequest,
    Result,
    TextRequest,
    WorkItem,
    repeat_answers,
)
from onetrunk.core.serving.engine.scheduler import Scheduler
from onetrunk.core.serving.engine.stats import SlidingWindow
from onetrunk.core.serving.engine.status import AdapterStatus, BackendInfo, EngineStatus
from onetrunk.core.tasks import Labels


class Engine(ServingBackend):
    """Serving backend in this process. All methods but the coroutines are thread-safe.

    trunk: computes the answers; the adapters that it has loaded are served under their references.
    limits: None: the default limits of the trunk's device.
    events: None: no events are reported.
    """

    def __init__(
        self, trunk: OneTrunk, limits: Limits | None = None, events: EventSink | None = None
    ) -> None:
        super().__init__(limits or Limits.for_device(trunk.trunk.device.type), events or EventSink())
        self.trunk = trunk
        self._admission = AdmissionControl(self.limits)
        self._executor = Executor(trunk, self.limits.batch_tokens, self.limits.input_tokens)
        wait = self.limits.wait_ms / 1e3
        self._scheduler = Scheduler(self._run, self.limits.batch_tokens, wait, self.limits.workers)
        self._loader = AdapterLoader()
        self._queueing_delays = SlidingWindow()
        self._open_requests = 0
        self._changed = asyncio.Event()  # set when capacity is freed or a request ends
        self._draining = False

    @override
    async def answer(self, inputs: Sequence[TextRequest], *, wait: bool = False) -> list[Result]:
        if self._draining:
            raise ShuttingDown
        self._open_requests += 1
        try:
            began, pending = time.perf_counter(), PendingRequest(len(inputs))
            items = work_items(inputs, pending, self.trunk.registry, self.limits)
            if items:
                await self._admit(items, wait)
                self._scheduler.put(items)
                await self._settled(items, pending)
            results = repeat_answers(inputs, pending.results)
            self._record(inputs, results, time.perf_counter() - began)
            return results
        finally:
            self._open_requests -= 1
            self._changed.set()

    @override
    async def load(self, name: str, reference: str) -> tuple[AdapterStatus, str | None]:
        def work() -> tuple[ServedName, str | None]:
            try:
                served, before = self.trunk.registry.load(reference, name)
            except OneTrunkError as error:
                self.events.load_failed(name, error)
                raise
            previous = None if before is None else before.version
            self.events.swapped(name, served.version, previous)
            return served, previous

        served, previous = await self._loader.run(name, work)
        return self._status_of(name, served), previous

    @override
    async def unload(self, name: str) -> None:
        def work() -> None:
            self.trunk.registry.unload(name)
            self.events.unloaded(name)

        try:
            await self._loader.run(name, work)
        except UsageError:
            raise UnknownName(name, sorted(self.served)) from None
        self._drop_windows()

    @override
    def status(self) -> EngineStatus:
        texts, _ = self._scheduler.waiting
        return EngineStatus(
            state=self._state(),
            waiting_texts=texts,
            waiting_tokens=self._admission.tokens,
            limit_tokens=self._admission.limit,
            wait_p95=self._queueing_delays.p95(),
            requests_per_second=self._requests.rate(),
            adapters=len(self.served),
            uptime=time.monotonic() - self._started,
        )

    @property
    @override
    def info(self) -> BackendInfo:
        backbone = self.trunk.backbone
        return BackendInfo(backbone.public_name, str(backbone.device), name_of(backbone.dtype))

    @property
    @override
    def usage(self) -> Usage:
        return self.trunk.bank.usage

    @property
    @override
    def served(self) -> Mapping[str, ServedName]:
        return self.trunk.registry.served

    @override
    async def drain(self) -> None:
        self._draining = True
        while self._open_requests:
            await self._next_change()

    def close(self) -> None:
        """Answer what is queued, and end the threads. Waits at most two seconds for loads that still run."""
        self._draining = True
        self._scheduler.close()
        self._loader.close()

    def _state(self) -> str:
        if not self._scheduler.alive:
            return "broken"
        if self._draining:
            return "draining"
        return "overloaded" if self._admission.tokens >= self._admission.limit else "ready"

    async def _next_change(self) -> None:
        """Return when capacity was freed or a request has ended."""
        self._changed.clear()
        await self._changed.wait()

    async def _admit(self, items: Sequence[WorkItem], wait: bool) -> None:
        """Reserve capacity for the items of a request. If there is none, wait for it, or raise QueueFull."""
        for item in items:
            item.queue_name = self._admission.busiest(item.names)
        charges = [charge for item in items for charge in item.charges]
        try:
            while refused := self._admission.admit(charges):
                if not wait:
                    admission = self._admission
                    self._scheduler.refused(refused)
                    raise QueueFull(admission.tokens, admission.limit, admission.retry_after())
                await self._next_change()
        except BaseException:
            for item in items:
                self.trunk.registry.release(item.held)
            raise

    async def _settled(self, items: Sequence[WorkItem], pending: PendingRequest) -> None:
        """Wait until every result is there. Raises OverTime."""
        seconds = self.limits.request_seconds
        # `call_later` costs less than `asyncio.timeout`, and every request pays for it.
        timer = pending.loop.call_later(seconds, pending.end)
        try:
            await pending.done
            if pending.left:
                raise OverTime(seconds, self._admission.retry_after())
        finally:
            timer.cancel()
            if pending.left:
                pending.abandoned = True
                self._release(self._scheduler.drop(items))

    def _prepare(self, items: Sequence[WorkItem]) -> list[WorkItem]:
        """Tokenise items. Returns the items that can be computed, and delivers the results of the others."""
        settled: list[tuple[WorkItem, Result]] = []
        ready: list[WorkItem] = []
        for item, result in self._executor.prepare(items):
            if result is None:
                ready.append(item)
            else:
                settled.append((item, result))
        self._correct_costs(ready)
        self._deliver(settled)
        return ready

    def _correct_costs(self, items: Sequence[WorkItem]) -> None:
        """Replace the estimated costs of tokenised items by their numbers of tokens."""
        by_queue: Counter[str] = Counter()
        for item in items:
            costs = [encoded.tokens for encoded in item.encoded]
            differences = [new - old for new, old in zip(costs, item.costs, strict=True)]
            self._admission.correct(zip(item.names, differences, strict=True))
            by_queue[item.queue_name] += sum(differences)
            item.costs = costs
        self._scheduler.charge(by_queue)

    def _run(self, batch: list[WorkItem]) -> None:
        """Compute a batch, on a device thread. Every item gets a result and is released, even if an event fails."""
        began = time.perf_counter()
        items = self._prepare(batch)
        if not items:
            return
        results = self._executor.answer(items)
        try:
            seconds = time.perf_counter() - began
            tokens = sum(sum(item.costs) for item in items)
            self._admission.ran(tokens, seconds)
            delays = [began - item.queued_at for item in items]
            self._queueing_delays.record(max(delays))
            versions = len({version.key for item in items for version in item.held})
            self.events.batch(tokens, len(items), versions, delays, seconds)
        finally:
            self._deliver(list(zip(items, results, strict=True)))

    def _deliver(self, settled: Sequence[tuple[WorkItem, Result]]) -> None:
        """Release items, and send their results to the event loop."""
        self._release([item for item, _ in settled])
        if settled:
            with suppress(RuntimeError):  # the loop is closed, so no caller waits
                settled[0][0].request.loop.call_soon_threadsafe(self._settle, settled)

    def _settle(self, settled: Sequence[tuple[WorkItem, Result]]) -> None:
        """Store results in their requests; runs on the event loop."""
        for item, result in settled:
            item.request.settle(item.index, result)
        self._changed.set()

    def _release(self, items: Iterable[WorkItem]) -> None:
        """Release the loaded versions and the capacity of items."""
        for item in items:
            self.trunk.registry.release(item.held)
            if item.request.abandoned:  # not answered, so it must not raise the measured rate of its names
                self._admission.correct((name, -cost) for name, cost in item.charges)
            else:
                self._admission.answered(item.charges)

    @override
    def _details(self, served: ServedName) -> tuple[str, Labels, Tier]:
        adapter = served.loaded.adapter
        return adapter.spec.name, adapter.labels, self.trunk.bank.tier(served.loaded)
