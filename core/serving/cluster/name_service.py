"""The name service: one process that stores which version is served under which name. No torch is imported.

Gateways send loads and unloads to it. They send texts to the replicas.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4
from weakref import WeakValueDictionary

from onetrunk.core.errors import OneTrunkError
from onetrunk.core.serving.cluster.call_retry import call_with_retry
from onetrunk.core.serving.cluster.messages import NameEntry, NameTable, TableUpdate
from onetrunk.core.serving.engine.errors import UnknownName

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

POLL_SECONDS = 1.0
"""Interval in which replicas send their health, and maximum time that a gateway waits for an update."""
STALE_SECONDS = 5.0
"""Age at which the health report of a replica is dropped."""
_MAX_LOADS = 8
"""Maximum number of loads at the same time when the service starts."""
_log = logging.getLogger(__name__)


class NameService:
    """Stores the name table and the health reports of the replicas. Belongs to one event loop.

    load: loads a reference on a replica and checks it; returns an error instead of raising it.
    origin: hash of the settings of the cluster.
    """

    def __init__(self, load: Callable[[str], Awaitable[NameEntry | OneTrunkError]], origin: str) -> None:
        self._load = load
        self._table = NameTable(origin, uuid4().hex)
        # A lock exists only while a load or an unload holds it or waits for it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._reports: dict[str, tuple[float, bytes]] = {}  # by replica: (time of arrival, health)
        self._change = asyncio.Event()

    async def begin(self, references: Mapping[str, str], *, skip: bool) -> None:
        """Load the adapters that are served from the start.

        references: by served name.
        skip: if an adapter cannot be loaded, log the error instead of raising it.
        """
        capacity = asyncio.Semaphore(_MAX_LOADS)

        async def load(name: str, reference: str) -> tuple[str, NameEntry | OneTrunkError]:
            async with capacity:
                return name, await self._load(reference)

        for name, entry in await asyncio.gather(*(load(*pair) for pair in references.items())):
            if isinstance(entry, OneTrunkError):
                if not skip:
                    raise entry
                _log.warning("%s is not served: %s", name, entry)
            else:
                self._set(self._table.with_entry(name, entry))

    async def put(
        self, epoch: str, name: str, reference: str
    ) -> tuple[NameTable, str | None] | OneTrunkError | None:
        """Load the version that `reference` means now, and serve it as `name`.

        Loads of one name run one after the other. A load that fails changes nothing.

        epoch: that of the caller's table: the id of the name service process that made it (`NameTable.epoch`).
        Returns the new table and the version that was replaced, or the error. Returns None and changes nothing if
        the table of this process has another epoch: the caller then receives that table and calls again.
        """
        async with self._locks.setdefault(name, asyncio.Lock()):
            entry = await self._load(reference)
            if isinstance(entry, OneTrunkError):
                return entry
            if epoch != self._table.epoch:
                return None
            before = self._table.entries.get(name)
            self._set(self._table.with_entry(name, entry))
            return self._table, None if before is None else before.version

    async def remove(self, epoch: str, name: str) -> NameTable | UnknownName | None:
        """Take `name` out of service. Returns the new table, or the error.

        epoch: that of the caller's table, as for `put`. If the table of this process has another one, returns None
            and changes nothing.
        """
        async with self._locks.setdefault(name, asyncio.Lock()):
            if epoch != self._table.epoch:
                return None
            if name not in self._table.entries:
                return UnknownName(name, sorted(self._table.entries))
            self._set(self._table.without(name))
            return self._table

    async def watch(self, mark: Sequence[object]) -> TableUpdate:
        """Wait at most `POLL_SECONDS` until the table differs from the caller's. Returns the table and the reports.

        mark: `NameTable.mark` of the caller's table.
        """
        if self._table.mark == tuple(mark):
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._change.wait()
        since = time.monotonic() - STALE_SECONDS
        self._reports = {replica: report for replica, report in self._reports.items() if report[0] >= since}
        table = None if self._table.mark == tuple(mark) else self._table
        return TableUpdate(table, {replica: report for replica, (_, report) in self._reports.items()})

    async def report(self, replica: str, report: bytes) -> None:
        """Store the health report of a replica."""
        self._reports[replica] = (time.monotonic(), report)

    async def adopt(self, table: NameTable) -> None:
        """Replace the table by that of a gateway, if this process was restarted and has lost it."""
        if table.outlives(self._table):
            self._set(table)

    def _set(self, table: NameTable) -> None:
        self._table = table
        self._change.set()
        self._change = asyncio.Event()


class NameServiceDeployment(NameService):
    """The name service as a Ray deployment.

    replicas: the deployment that loads adapters.
    adapters: the references that are served from the start, by served name; None: every adapter of the store.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, replicas: DeploymentHandle, adapters: Mapping[str, str] | None, origin: str
    ) -> None:
        async def load(reference: str) -> NameEntry | OneTrunkError:
            entry: NameEntry | OneTrunkError = await call_with_retry(
                lambda: replicas.load.remote(reference), wait=True
            )
            return entry

        super().__init__(load, origin)
        first = adapters
        if first is None:
            names = await call_with_retry(lambda: replicas.names.remote(), wait=True)
            first = {name: name for name in names}
        await self.begin(first, skip=adapters is None)
