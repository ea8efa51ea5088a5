"""The serving engine: answers requests of all adapters in shared batches, while adapters are loaded and unloaded.

A request is admitted and queued on the event loop. A device thread tokenises it and computes it in a batch. The
event loop receives the results; it never waits for a device thread. A request is answered by the versions that were
in service when it arrived.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from onetrunk.adapters.methods.bank import Usage
from onetrunk.core.backbones.device import name_of
from onetrunk.core.errors import UsageError
from onetrunk.core.inference.predictor import OneTrunk
from onetrunk.core.inference.registry import ServedName
from onetrunk.core.serving.engine.adapter_loader import AdapterLoader
from onetrunk.core.serving.engine.admission import AdmissionControl, work_items
from onetrunk.core.serving.engine.backend import BackendInfo
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
from onetrunk.core.serving.engine.stats import RequestStatistics, SlidingWindow
from onetrunk.core.serving.engine.status import AdapterStatus, EngineStatus


class Engine:
    """Serving backend in this process. Coroutines belong to one event loop; the other methods are thread-safe.

    trunk: computes the answers; the adapters that it has loaded are served under their references.
    limits: default: those of the trunk's device.
    events: receives all serving events; default: nothing does.
    """

    def __init__(
        self, trunk: OneTrunk, limits: Limits | None = None, events: EventSink | None = None
    ) -> None:
        self.trunk = trunk
        self.limits = limits or Limits.for_device(trunk.trunk.device.type)
        self.events = events or EventSink()
        self._admission = AdmissionControl(self.limits)
        self._executor = Executor(trunk, self.limits.batch_tokens, self.limits.input_tokens)
        wait = self.limits.wait_ms / 1e3
        self._scheduler = Scheduler(self._run, self.limits.batch_tokens, wait, self.limits.workers)
        self._loader = AdapterLoader(trunk.registry, self.events)
        self._statistics = RequestStatistics(self.events)
        self._queueing_delays = SlidingWindow()
        self._started = time.monotonic()
        self._open_requests = 0
        self._changed = asyncio.Event()  # set when capacity is freed or a request ends
        self._draining = False

    async def answer(self, inputs: Sequence[TextRequest], *, wait: bool = False) -> list[Result]:
        """Return the result of each text; an error of one text does not affect the others.

        If the caller is cancelled, the texts that are still queued leave the queue.

        wait: wait for capacity in the queue instead of raising QueueFull.
        Raises QueueFull. Raises OverTime after `Limits.request_seconds`, not counting the wait for capacity. Raises
        ShuttingDown after `drain` was called.
        """
        with self._open_request():
            began, pending = time.perf_counter(), PendingRequest(len(inputs))
            items = work_items(inputs, pending, self.trunk.registry, self.limits)
            if items:
                await self._admit(items, wait)
                self._scheduler.put(items)
                await self._settled(items, pending)
            results = repeat_answers(inputs, pending.results)
            seconds = time.perf_counter() - began
            self._statistics.record(inputs, results, seconds, self.trunk.registry.served)
            return results

    async def load(self, name: str, reference: str) -> tuple[AdapterStatus, str | None]:
        """Load the version that `reference` means now, and serve it as `name`.

        Loads and unloads of one name run in the order requested, even if the caller is cancelled.

        Returns its status, and the version it replaced, if any. Raises what `OneTrunk.load` raises; the version
        that served before then stays in service.
        """
        served, before = await self._loader.load(name, reference)
        return self._status_of(name, served), None if before is None else before.version

    async def unload(self, name: str) -> None:
        """Take `name` out of service; requests that have been accepted are answered. Raises UnknownName."""
        try:
            await self._loader.unload(name)
        except UsageError:
            raise UnknownName(name, sorted(self.trunk.registry.served)) from None
        self._statistics.keep_only(self.trunk.registry.served)

    def versions(self) -> dict[str, str]:
        """Return the version in service for each served name."""
        return {name: served.version for name, served in self.trunk.registry.served.items()}

    def adapters(self) -> list[AdapterStatus]:
        """Return the status of each served adapter, sorted by name."""
        return [self._status_of(name, served) for name, served in sorted(self.trunk.registry.served.items())]

    def adapter(self, name: str) -> AdapterStatus:
        """Return the status of the adapter that serves as `name`. Raises UnknownName."""
        served = self.trunk.registry.served
        if name not in served:
            raise UnknownName(name, sorted(served))
        return self._status_of(name, served[name])

    def status(self) -> EngineStatus:
        """Return the state of the queue and the load."""
        texts, _ = self._scheduler.waiting
        return EngineStatus(
            state=self._state(),
            waiting_texts=texts,
            waiting_tokens=self._admission.tokens,
            limit_tokens=self._admission.limit,
            wait_p95=self._queueing_delays.p95(),
            requests_per_second=self._statistics.requests.rate(),
            adapters=len(self.trunk.registry.served),
            uptime=time.monotonic() - self._started,
        )

    @property
    def info(self) -> BackendInfo:
        """Backbone, device and precision."""
        backbone = self.trunk.backbone
        return BackendInfo(backbone.public_name, str(backbone.device), name_of(backbone.dtype))

    @property
    def usage(self) -> Usage:
        """Memory and transfers of the adapter bank."""
        return self.trunk.bank.usage

    async def drain(self) -> None:
        """Refuse new requests, and return when all accepted ones are answered."""
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

    @contextmanager
    def _open_request(self) -> Iterator[None]:
        """Count a request as open while the block runs. Raises ShuttingDown."""
        if self._draining:
            raise ShuttingDown
        self._open_requests += 1
        try:
            yield
        finally:
            self._open_requests -= 1
            self._changed.set()

    async def _next_change(self) -> None:
        """Return when capacity was freed or a request has ended."""
        self._changed.clear()
        await self._changed.wait()

    async def _admit(self, items: Sequence[WorkItem], wait: bool) -> None:
        """Reserve capacity for the items of a request. Raises QueueFull unless `wait`."""
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
                pending.gone = True
                self._release(self._scheduler.drop(items))

    def _prepare(self, items: Sequence[WorkItem]) -> list[WorkItem]:
        """Tokenise items. Returns those that can be computed; delivers the result of the others."""
        settled: list[tuple[WorkItem, Result]] = []
        ready: list[WorkItem] = []
        for item, error in self._executor.prepare(items):
            if error is not None:
                settled.append((item, error))
            elif item.request.gone:
                settled.append((item, []))
            else:
                ready.append(item)
        self._correct_costs(ready)
        self._deliver(settled)
        return ready

    def _correct_costs(self, items: Sequence[WorkItem]) -> None:
        """Replace the estimated costs of tokenised items by their true ones."""
        by_queue: Counter[str] = Counter()
        for item in items:
            costs = [encoded.tokens for encoded in item.encoded]
            differences = [new - old for new, old in zip(costs, item.costs, strict=True)]
            self._admission.correct(zip(item.names, differences, strict=True))
            by_queue[item.queue_name] += sum(differences)
            item.costs = costs
        self._scheduler.charge(by_queue)

    def _run(self, batch: list[WorkItem]) -> None:
        """Compute a batch, on a device thread. Every item gets a result and is released, whatever fails."""
        began = time.perf_counter()
        items = self._prepare(batch)
        if not items:
            return
        results = self._executor.answer(items)
        try:
            self._measure(items, began, time.perf_counter() - began)
        finally:
            self._deliver(list(zip(items, results, strict=True)))

    def _measure(self, items: Sequence[WorkItem], began: float, seconds: float) -> None:
        """Record a batch: throughput, queueing delays and the event."""
        tokens = sum(sum(item.costs) for item in items)
        self._admission.ran(tokens, seconds)
        delays = [began - item.queued_at for item in items]
        self._queueing_delays.record(max(delays))
        versions = len({version.key for item in items for version in item.held})
        self.events.batch(tokens, len(items), versions, delays, seconds)

    def _deliver(self, settled: Sequence[tuple[WorkItem, Result]]) -> None:
        """Release items, and send their results to the event loop."""
        self._release([item for item, _ in settled])
        if settled:
            with suppress(RuntimeError):  # the loop is closed: no caller waits any more
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
            if item.request.gone:  # not an answer: it must not raise the measured rate of its names
                self._admission.correct((name, -cost) for name, cost in item.charges)
            else:
                self._admission.answered(item.charges)

    def _status_of(self, name: str, served: ServedName) -> AdapterStatus:
        adapter, window = served.loaded.adapter, self._statistics.of_name(name)
        return AdapterStatus(
            name=name,
            version=served.version,
            reference=served.reference,
            task=adapter.spec.name,
            labels=adapter.labels,
            tier=self.trunk.bank.tier(served.loaded),
            since=served.since,
            requests=window.total,
            requests_per_second=window.rate(),
            p95=window.p95(),
        )
