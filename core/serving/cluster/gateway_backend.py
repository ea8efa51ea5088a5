"""The desk of a cluster: what `Engine` is in one process, with the engines elsewhere."""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from onetrunk.adapters.methods.bank import Usage
from onetrunk.core.errors import OneTrunkError
from onetrunk.core.serving.cluster.call_batching import CallBatcher
from onetrunk.core.serving.cluster.gateway_state import GatewayState
from onetrunk.core.serving.cluster.messages import Outcome
from onetrunk.core.serving.cluster.name_table import NameEntry, NameTable, TableUpdate
from onetrunk.core.serving.cluster.ray_retry import call_with_retry
from onetrunk.core.serving.cluster.replica_client import ReplicaClient
from onetrunk.core.serving.engine.backend import BackendInfo
from onetrunk.core.serving.engine.errors import OverTime, TextTooLong, TooManyAdapters, UnknownName
from onetrunk.core.serving.engine.events import EventSink
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import Result, TextRequest
from onetrunk.core.serving.engine.status import AdapterStatus, EngineStatus

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle, DeploymentResponse

_RETRY_SECONDS = 5
_PAUSE = 0.5
"""Seconds until the keeper of the names, which is being started again, is asked again."""
_log = logging.getLogger(__name__)


class RayBackend:
    """A `Desk` whose texts replicas answer. Belongs to one event loop, but for what only tells.

    replicas, keeper: the deployments of `Replica` and of `Names`.
    A request means by a name what the table had when the request came, whatever happens to the table meanwhile.
    """

    def __init__(
        self,
        replicas: DeploymentHandle,
        keeper: DeploymentHandle,
        limits: Limits,
        events: EventSink,
    ) -> None:
        self.limits, self.events = limits, events
        self._keeper, self._known = keeper, GatewayState()
        self._lines: CallBatcher[Outcome] = CallBatcher(ReplicaClient(replicas), limits.wait_ms / 1e3)
        self._hearing: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Return when the names are known and some replica is there; from then on changes are heard of."""
        while not self._known.reports:
            await self._hear()
        self._hearing = asyncio.create_task(self._hear_on())

    @property
    def alive(self) -> bool:
        """Whether changes of the table are heard of."""
        return self._hearing is not None and not self._hearing.done()

    @property
    def info(self) -> BackendInfo:
        """What computes."""
        return self._known.info

    @property
    def usage(self) -> Usage:
        """What the banks of all replicas hold, and have moved."""
        return self._known.usage

    async def answer(self, inputs: Sequence[TextRequest], *, wait: bool = False) -> list[Result]:
        """Return what comes of each input; as `Engine.answer`."""
        began, entries = time.perf_counter(), self._known.table.entries
        results: list[Result] = [self._refused(given, entries) or [] for given in inputs]
        groups: dict[str, list[int]] = defaultdict(list)
        for index, (given, refused) in enumerate(zip(inputs, results, strict=True)):
            if given.adapters and not refused:
                groups[entries[given.adapters[0]].key].append(index)
        async with self._in_time(wait):
            outcomes = await asyncio.gather(
                *(
                    self._lines.send(key, [_keyed(inputs[index], entries) for index in own], wait)
                    for key, own in groups.items()
                )
            )
        for own, outcome in zip(groups.values(), outcomes, strict=True):
            if isinstance(outcome, OneTrunkError):
                raise outcome
            for index, result in zip(own, outcome, strict=True):
                results[index] = _named(result, inputs[index])
        self._note(inputs, results, time.perf_counter() - began)
        return results

    async def load(self, name: str, reference: str) -> tuple[AdapterStatus, str | None]:
        """Put what `reference` means now in service as `name`, once a replica has loaded and checked it."""
        outcome = await self._changed(lambda epoch: self._keeper.put.remote(epoch, name, reference))
        if isinstance(outcome, OneTrunkError):
            self.events.load_failed(name, outcome)
            raise outcome
        table, previous = outcome
        self._known.take(table)
        self.events.swapped(name, table.entries[name].version, previous)
        return self._known.of(name, table.entries[name]), previous

    async def unload(self, name: str) -> None:
        """Take `name` out of service. Raises UnknownName."""
        outcome = await self._changed(lambda epoch: self._keeper.remove.remote(epoch, name))
        if isinstance(outcome, OneTrunkError):
            raise outcome
        self._known.take(outcome)
        self.events.unloaded(name)

    def versions(self) -> dict[str, str]:
        """Return the version that serves under each name."""
        return {name: entry.version for name, entry in self._known.table.entries.items()}

    def adapters(self) -> list[AdapterStatus]:
        """Return what is served, by name."""
        return self._known.adapters()

    def adapter(self, name: str) -> AdapterStatus:
        """Return what serves as `name`. Raises UnknownName."""
        return self._known.adapter(name)

    def status(self) -> EngineStatus:
        """Return how the cluster does."""
        return self._known.status()

    async def drain(self) -> None:
        """Return at once: Ray ends a gateway only when its requests have been answered."""

    def _refused(self, given: TextRequest, entries: Mapping[str, NameEntry]) -> OneTrunkError | None:
        if len(given.text) > self.limits.characters:
            return TextTooLong(len(given.text), self.limits.characters)
        if len(given.adapters) > self.limits.adapters:
            return TooManyAdapters(len(given.adapters), self.limits.adapters)
        missing = next((name for name in given.adapters if name not in entries), None)
        return None if missing is None else UnknownName(missing, sorted(entries))

    @asynccontextmanager
    async def _in_time(self, wait: bool) -> AsyncIterator[None]:
        """Bound how long the block runs, where it does not `wait`. Raises OverTime."""
        seconds = self.limits.request_seconds
        try:
            async with asyncio.timeout(None if wait else seconds):
                yield
        except TimeoutError:
            raise OverTime(seconds, _RETRY_SECONDS) from None

    def _note(self, inputs: Sequence[TextRequest], results: Sequence[Result], seconds: float) -> None:
        self._known.count(seconds)
        for given, result in zip(inputs, results, strict=True):
            if isinstance(result, OneTrunkError):
                self.events.failed(result)
                continue
            for name in given.adapters:
                self._known.count_answer(name, seconds)
                self.events.answered(name, seconds)

    async def _changed(self, call: Callable[[str], DeploymentResponse]) -> Any:
        """Return what a change of the table comes to; `call` is given the epoch of the table that is to change."""
        while True:
            epoch = self._known.table.epoch
            outcome = await call_with_retry(partial(call, epoch), wait=True)
            if outcome is not None:
                return outcome
            await self._hear()  # the keeper was started again, and may not have heard of our table yet

    async def _hear_on(self) -> None:
        while True:
            try:
                await self._hear()
            except (RayError, RayServeException) as error:
                _log.warning("the keeper of the names cannot be reached: %s", error)
                await asyncio.sleep(_PAUSE)

    async def _hear(self) -> None:
        """Hear of the next change of the table, or how replicas do; tell a keeper that has lost the table."""
        own: NameTable = self._known.table
        view: TableUpdate = await self._keeper.watch.remote(own.mark)
        self._known.reports = {name: pickle.loads(told) for name, told in view.reports.items()}
        if view.table is not None and own.outlives(view.table):
            await self._keeper.adopt.remote(own)
        elif view.table is not None:
            self._known.take(view.table)


def _keyed(given: TextRequest, entries: Mapping[str, NameEntry]) -> TextRequest:
    """Return an input with what names mean in place of the names."""
    return TextRequest(given.text, tuple(entries[name].key for name in given.adapters))


def _named(result: Result, given: TextRequest) -> Result:
    """Return a result with the names that were asked for."""
    if isinstance(result, OneTrunkError):
        return result
    return [replace(answer, adapter=name) for answer, name in zip(result, given.adapters, strict=True)]
