"""The serving engine: answers requests for all adapters in shared batches, while adapters are loaded and unloaded.

A request is admitted and queued on the event loop. A device thread tokenises it, computes it in a batch, and sends
the results to the event loop, which never waits for a device thread. A request is answered by the versions that
were in service when it arrived.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from typing_extensions import override

from onetrunk.adapters.methods.bank import Tier, Usage
from onetrunk.adapters.remotes.locations import is_location
from onetrunk.core.backbones.device import name_of
from onetrunk.core.errors import OneTrunkError, UsageError
from onetrunk.core.inference.predictor import OneTrunk
from onetrunk.core.inference.registry import ServedName
from onetrunk.core.serving.engine.adapter_loader import AdapterLoader, GivenUp
from onetrunk.core.serving.engine.admission import AdmissionControl, work_items
from onetrunk.core.serving.engine.backend import ServingBackend
from onetrunk.core.serving.engine.errors import (
    AdapterUnavailable,
    OverTime,
    QueueFull,
    ShuttingDown,
    UnknownName,
)
from onetrunk.core.serving.engine.events import EventSink
from onetrunk.core.serving.engine.lazy_names import LazyNames
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import (
    PendingRequest,
    Result,
    TextRequest,
    WorkItem,
    repeat_answers,
)
from onetrunk.core.serving.engine.runner import Runner
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
        self._changed = asyncio.Event()  # set when capacity is freed or a request ends
        self._runner = Runner(trunk, self.limits, self._admission, self.events, self._changed.set)
        self._scheduler = self._runner.scheduler
        self._loader = AdapterLoader(self.limits.load_seconds)
        self._lazy = LazyNames(trunk.registry, self._load, self._unload, self.limits.loaded)
        self._open_requests = 0
        self._trimming: asyncio.Task[None] | None = None
        self._draining = False

    @override
    async def answer(self, inputs: Sequence[TextRequest], *, wait: bool = False) -> list[Result]:
        if self._draining:
            raise ShuttingDown
        self._open_requests += 1
        try:
            began, pending = time.perf_counter(), PendingRequest(len(inputs))
            names = {name for given in inputs for name in given.adapters}
            with self._lazy.keep(names):
                failed = await self._load_missing(names) if self._lazy.pending else {}
                items = work_items(inputs, pending, self.trunk.registry, self.limits)
            if len(self.served) > self.limits.loaded:  # the request uses more names
                self._trimming = asyncio.create_task(self._lazy.make_room())
            if items:
                await self._admit(items, wait)
                self._scheduler.put(items)
                await self._settled(items, pending)
            results = repeat_answers(inputs, [self._explained(each, failed) for each in pending.results])
            self._record(inputs, results, time.perf_counter() - began)
            return results
        finally:
            self._open_requests -= 1
            self._changed.set()

    async def warm_up(
        self, references: Mapping[str, str], loaded: Callable[[str, ServedName | OneTrunkError], None]
    ) -> None:
        """Serve adapters under their names; see `LazyNames.warm_up`. The state is `loading` meanwhile."""
        await self._lazy.warm_up(references, loaded)

    @override
    async def load(self, name: str, reference: str) -> tuple[AdapterStatus, str | None]:
        served, previous = await self._load(name, reference)
        self._lazy.pending.pop(name, None)
        status = self._status_of(name, served)
        with self._lazy.keep([name]):
            await self._lazy.make_room()
        return status, previous

    @override
    async def unload(self, name: str) -> None:
        was_pending = self._lazy.pending.pop(name, None) is not None
        try:
            await self._unload(name)
        except UnknownName:
            if not was_pending:
                raise
        self.events.unloaded(name)
        self._drop_windows()

    @override
    def status(self) -> EngineStatus:
        texts, _ = self._scheduler.waiting
        return EngineStatus(
            state=self._state(),
            waiting_texts=texts,
            waiting_tokens=self._admission.tokens,
            limit_tokens=self._admission.limit,
            wait_p95=self._runner.queueing_delays.p95(),
            requests_per_second=self._requests.rate(),
            adapters=len(self.names()),
            pending=len(self._lazy.pending),
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
    def names(self) -> frozenset[str]:
        return frozenset((*self.served, *self._lazy.pending))

    @override
    async def drain(self) -> None:
        self._draining = True
        self._loader.stop()
        while self._open_requests:
            await self._next_change()

    def close(self) -> bool:
        """Answer what is queued, and end the threads. Waits at most two seconds for loads that still run.

        Returns whether all loads have ended.
        """
        self._draining = True
        self._runner.close()
        return self._loader.close()

    def _state(self) -> str:
        if not self._scheduler.alive:
            return "broken"
        if self._draining:
            return "draining"
        if self._lazy.loading:
            return "loading"
        return "overloaded" if self._admission.is_full else "ready"

    async def _load(self, name: str, reference: str) -> tuple[ServedName, str | None]:
        def work(given_up: GivenUp) -> tuple[ServedName, str | None]:
            try:
                served, before = self.trunk.registry.load(reference, name, given_up)
            except OneTrunkError as error:
                self.events.load_failed(name, error)
                raise
            previous = None if before is None else before.version
            self.events.swapped(name, served.version, previous)
            return served, previous

        return await self._loader.run(name, work, remote=is_location(reference))

    async def _unload(self, name: str) -> None:
        try:
            await self._loader.run(name, lambda _: self.trunk.registry.unload(name))
        except UsageError:
            raise UnknownName(name, sorted(self.names())) from None

    async def _load_missing(self, names: Collection[str]) -> dict[str, OneTrunkError]:
        """Load the adapters of a request that are not loaded yet. Returns the errors by name. Raises OverTime."""
        seconds, failed = self.limits.request_seconds, dict[str, OneTrunkError]()
        try:
            async with asyncio.timeout(seconds):
                while missing := [
                    name for name in names if name in self._lazy.pending and name not in failed
                ]:
                    failed |= await self._lazy.ensure(missing)
            return failed
        except TimeoutError:
            raise OverTime(seconds, self._admission.retry_after()) from None

    async def _next_change(self) -> None:
        """Return when capacity was freed or a request has ended."""
        self._changed.clear()
        await self._changed.wait()

    async def _admit(self, items: Sequence[WorkItem], wait: bool) -> None:
        """Reserve capacity for the items of a request. If there is none, wait for it, or raise QueueFull."""
        for item in items:
            item.long = self._admission.is_long(item.cost)
            item.flow = self._admission.busiest(item.flows)
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
                self._runner.drop(items)

    def _explained(self, result: Result, failed: Mapping[str, OneTrunkError]) -> Result:
        """Return a result; for a name that could not be loaded, the reason; for an unknown one, all known names."""
        if not isinstance(result, UnknownName):
            return result
        if result.name in failed:
            return AdapterUnavailable(result.name, failed[result.name])
        return UnknownName(result.name, sorted(self.names()))

    @override
    def _details(self, served: ServedName) -> tuple[str, Labels, Tier]:
        adapter = served.loaded.adapter
        return adapter.spec.name, adapter.labels, self.trunk.bank.tier(served.loaded)
