"""Keeps the table of names of a cluster. One process; loads go through it, answers do not. No torch is imported."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from uuid import uuid4
from weakref import WeakValueDictionary

from onetrunk.core.errors import OneTrunkError
from onetrunk.core.serving.cluster.name_table import NameEntry, NameTable, TableUpdate
from onetrunk.core.serving.engine.errors import UnknownName

POLL_SECONDS = 1.0
"""How often a gateway that waits for a change hears of how replicas do, and replicas tell it."""
STALE_SECONDS = 5.0
"""After which a replica that has told nothing is not counted."""
_LOADS_AT_ONCE = 8
_log = logging.getLogger(__name__)


class NameService:
    """The table, changed one name at a time. Belongs to one event loop.

    load: has a replica load and check what a reference means now; returns what went wrong instead of raising it.
    origin: the settings of the cluster.
    """

    def __init__(self, load: Callable[[str], Awaitable[NameEntry | OneTrunkError]], origin: str) -> None:
        self._load = load
        self._table = NameTable(origin, uuid4().hex)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = (
            WeakValueDictionary()
        )  # of names that change now
        self._reports: dict[str, tuple[float, bytes]] = {}
        self._change = asyncio.Event()

    async def begin(self, references: Mapping[str, str], *, skip: bool) -> None:
        """Put the first adapters in service, by name. skip: log of one that cannot be, instead of raising why."""
        places = asyncio.Semaphore(_LOADS_AT_ONCE)

        async def one(name: str, reference: str) -> tuple[str, NameEntry | OneTrunkError]:
            async with places:
                return name, await self._load(reference)

        for name, entry in await asyncio.gather(*(one(*pair) for pair in references.items())):
            if isinstance(entry, OneTrunkError):
                if not skip:
                    raise entry
                _log.warning("%s is not served: %s", name, entry)
            else:
                self._set(self._table.changed(name, entry))

    async def put(
        self, epoch: str, name: str, reference: str
    ) -> tuple[NameTable, str | None] | OneTrunkError | None:
        """Put what `reference` means now in service as `name`; return the table and the version that it replaced.

        Loads of one name take place one after the other. One that fails changes nothing. Returns None, and does
        nothing, where the caller's table is of another epoch: then one of the two has to hear of the other's first.
        """
        async with self._turn(name):
            entry = await self._load(reference)
            if isinstance(entry, OneTrunkError):
                return entry
            if epoch != self._table.epoch:
                return None
            before = self._table.entries.get(name)
            self._set(self._table.changed(name, entry))
            return self._table, None if before is None else before.version

    async def remove(self, epoch: str, name: str) -> NameTable | UnknownName | None:
        """Take `name` out of service. Returns None as `put` does."""
        async with self._turn(name):
            if epoch != self._table.epoch:
                return None
            if name not in self._table.entries:
                return UnknownName(name, sorted(self._table.entries))
            self._set(self._table.changed(name, None))
            return self._table

    async def watch(self, mark: Sequence[object]) -> TableUpdate:
        """Return the table as soon as its mark is another one, and how replicas do after `POLL_SECONDS` at most."""
        if self._table.mark == tuple(mark):
            change = self._change
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await change.wait()
            except TimeoutError:
                return TableUpdate(None, self._fresh())
        return TableUpdate(self._table, self._fresh())

    def report(self, replica: str, report: bytes) -> None:
        """Hear how a replica does."""
        self._reports[replica] = (time.monotonic(), report)

    def adopt(self, table: NameTable) -> None:
        """Take the table of a gateway, if this process was started again and has lost it."""
        if table.outlives(self._table):
            self._set(table)

    def _turn(self, name: str) -> asyncio.Lock:
        """Return the lock of `name`, which lives as long as somebody holds it or waits for it."""
        return self._turns.setdefault(name, asyncio.Lock())

    def _set(self, table: NameTable) -> None:
        self._table = table
        self._change.set()
        self._change = asyncio.Event()

    def _fresh(self) -> dict[str, bytes]:
        since = time.monotonic() - STALE_SECONDS
        self._reports = {name: told for name, told in self._reports.items() if told[0] >= since}
        return {name: report for name, (_, report) in self._reports.items()}
