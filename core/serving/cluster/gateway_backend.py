"""The serving backend of a gateway, which is a process that accepts HTTP requests: replicas compute the answers."""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from onetrunk.adapters.methods.bank import Tier, Usage
from onetrunk.core.errors import OneTrunkError
from onetrunk.core.serving.cluster.call_batching import CallBatcher
from onetrunk.core.serving.cluster.call_retry import call_with_retry
from onetrunk.core.serving.cluster.messages import NameEntry, NameTable, Outcome, ReplicaHealth, TableUpdate
from onetrunk.core.serving.engine.admission import check_size
from onetrunk.core.serving.engine.backend import ServingBackend
from onetrunk.core.serving.engine.errors import OverTime, QueueFull, ServingError, UnknownName
from onetrunk.core.serving.engine.events import EventSink
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import Result, TextRequest
from onetrunk.core.serving.engine.status import AdapterStatus, BackendInfo, EngineStatus
from onetrunk.core.tasks import Labels

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle, DeploymentResponse

_RETRY_SECONDS = 5
"""Seconds after which a client may try again a request that was over its time limit."""
_PAUSE_SECONDS = 0.5
"""Pause before the next call of a name service that could not be reached."""
_TIERS: tuple[Tier, ...] = ("device", "host", "disk")  # the fastest one first
_log = logging.getLogger(__name__)


class RayBackend(ServingBackend):
    """Serving backend of a gateway: sends texts to the replicas, and loads and unloads to the name service.

    A request is answered by the versions that the name table had when the request arrived. A request that waits
    for capacity has no time limit.

    replicas: the deployment of `Replica`.
    names: the deployment of the name service.
    table: the newest name table that was received.
    reports: the newest health report of each replica, by the id of the replica.
    """

    def __init__(
        self, replicas: DeploymentHandle, names: DeploymentHandle, limits: Limits, events: EventSink
    ) -> None:
        super().__init__(limits, events)
        self._replicas, self._names = replicas, names
        self.table = NameTable("", "")
        self.reports: Mapping[str, ReplicaHealth] = {}
        self._calls: CallBatcher[Outcome] = CallBatcher(self._call_replica, limits.wait_ms / 1e3)
        self._watching: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Wait for the name table and the health of a replica, and start a task that keeps them up to date."""
        while not self.reports:
            await self._receive_update()
        self._watching = asyncio.create_task(self._watch())

    @property
    def alive(self) -> bool:
        """Whether updates of the name table are received."""
        return self._watching is not None and not self._watching.done()

    @override
    async def answer(self, inputs: Sequence[TextRequest], *, wait: bool = False) -> list[Result]:
        began, entries = time.perf_counter(), self.table.entries
        results: list[Result] = [[] for _ in inputs]
        # Texts by their index in `inputs`, grouped by the key of their first adapter.
        groups: dict[str, dict[int, TextRequest]] = defaultdict(dict)
        for index, given in enumerate(inputs):
            try:
                check_size(given, self.limits)
                keys = tuple(entries[name].key for name in given.adapters)
            except ServingError as error:
                results[index] = error
            except KeyError as error:
                results[index] = UnknownName(error.args[0], sorted(entries))
            else:
                if keys:
                    groups[keys[0]][index] = replace(given, adapters=keys)
        calls = [self._calls.send(key, list(texts.values()), wait) for key, texts in groups.items()]
        seconds = self.limits.request_seconds
        try:
            async with asyncio.timeout(None if wait else seconds):
                outcomes = await asyncio.gather(*calls)
        except TimeoutError:
            raise OverTime(seconds, _RETRY_SECONDS) from None
        for texts, outcome in zip(groups.values(), outcomes, strict=True):
            if isinstance(outcome, OneTrunkError):
                raise outcome
            for index, result in zip(texts, outcome, strict=True):
                results[index] = _with_names(result, inputs[index])
        self._record(inputs, results, time.perf_counter() - began)
        return results

    @override
    async def load(self, name: str, reference: str) -> tuple[AdapterStatus, str | None]:
        outcome = await self._change(lambda epoch: self._names.put.remote(epoch, name, reference))
        if isinstance(outcome, OneTrunkError):
            self.events.load_failed(name, outcome)
            raise outcome
        table, previous = outcome
        self.update(table)
        entry = table.entries[name]
        self.events.swapped(name, entry.version, previous)
        return self._status_of(name, entry), previous

    @override
    async def unload(self, name: str) -> None:
        outcome = await self._change(lambda epoch: self._names.remove.remote(epoch, name))
        if isinstance(outcome, OneTrunkError):
            raise outcome
        self.update(outcome)
        self.events.unloaded(name)

    @property
    @override
    def info(self) -> BackendInfo:
        """The facts of the first replica; empty strings without replicas."""
        return next((report.info for report in self.reports.values()), BackendInfo("", "", ""))

    @property
    @override
    def usage(self) -> Usage:
        """The sums over all replicas."""
        usages = [report.usage for report in self.reports.values()]
        return Usage(*(sum(getattr(own, field.name) for own in usages) for field in fields(Usage)))

    @property
    @override
    def served(self) -> Mapping[str, NameEntry]:
        return self.table.entries

    @override
    def status(self) -> EngineStatus:
        """Return the summed queues. The state is `ready` if one replica is ready, `broken` without replicas."""
        each = [report.status for report in self.reports.values()]
        states = [own.state for own in each] or ["broken"]
        return EngineStatus(
            state="ready" if "ready" in states else states[0],
            waiting_texts=sum(own.waiting_texts for own in each),
            waiting_tokens=sum(own.waiting_tokens for own in each),
            limit_tokens=sum(own.limit_tokens for own in each),
            wait_p95=max((own.wait_p95 for own in each if own.wait_p95 is not None), default=None),
            requests_per_second=self._requests.rate(),
            adapters=len(self.served),
            uptime=time.monotonic() - self._started,
        )

    @override
    async def drain(self) -> None:
        """Return at once, because Ray stops a gateway only after its requests are answered."""

    def update(self, table: NameTable) -> None:
        """Replace the table, unless the new one is an older revision of the same epoch."""
        if table.epoch != self.table.epoch or table.revision > self.table.revision:
            self.table = table
            self._drop_windows()

    async def _call_replica(
        self, key: str, requests: list[Sequence[TextRequest]], wait: bool
    ) -> list[Outcome]:
        """Return the outcome of each request, from a replica that has the version with this key loaded.

        key: `NameEntry.key`.
        wait: wait for capacity instead of returning QueueFull for each request.
        Raises RayActorError if three replicas are lost, one after the other.
        """
        replicas = self._replicas.options(multiplexed_model_id=key)
        try:
            outcomes: list[Outcome] = await call_with_retry(
                lambda: replicas.answer.remote(requests, wait), wait=wait
            )
        except QueueFull as error:
            return [error] * len(requests)
        return outcomes

    async def _change(self, call: Callable[[str], DeploymentResponse]) -> Any:
        """Return the result of a change of the name table.

        call: calls the name service with the epoch of this gateway's table.
        """
        while True:
            epoch = self.table.epoch
            outcome = await call_with_retry(partial(call, epoch), wait=True)
            if outcome is not None:
                return outcome
            await self._receive_update()  # the name service was restarted, and its table has another epoch

    async def _watch(self) -> None:
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        while True:
            try:
                await self._receive_update()
            except (RayError, RayServeException) as error:
                _log.warning("the name service cannot be reached: %s", error)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _receive_update(self) -> None:
        """Wait for the next update from the name service. If it was restarted without a table, send it this one."""
        update: TableUpdate = await self._names.watch.remote(self.table.mark)
        self.reports = {name: pickle.loads(report) for name, report in update.reports.items()}
        if update.table is not None and self.table.outlives(update.table):
            await self._names.adopt.remote(self.table)
        elif update.table is not None:
            self.update(update.table)

    @override
    def _details(self, served: NameEntry) -> tuple[str, Labels, Tier]:
        loaded = [report.tiers[served.key] for report in self.reports.values() if served.key in report.tiers]
        tiers: list[Tier] = [*loaded, "disk"]
        return served.task, served.labels, min(tiers, key=_TIERS.index)


def _with_names(result: Result, given: TextRequest) -> Result:
    """Return a result with the served names in place of the keys."""
    if isinstance(result, OneTrunkError):
        return result
    return [replace(answer, adapter=name) for answer, name in zip(result, given.adapters, strict=True)]
