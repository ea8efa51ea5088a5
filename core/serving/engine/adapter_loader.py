"""The adapter loader: loads and unloads adapters on threads, so that the event loop never waits for a file."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from onetrunk.core.errors import OneTrunkError
from onetrunk.core.inference.registry import AdapterRegistry, ServedName
from onetrunk.core.serving.engine.cpu_threads import start_thread
from onetrunk.core.serving.engine.events import EventSink

_MAX_LOADS = 2
"""Maximum number of loads and unloads that run at the same time."""
_CLOSE_SECONDS = 2.0
"""Seconds that `close` waits for running loads."""

T = TypeVar("T")


class AdapterLoader:
    """Loads and unloads served names, each on a thread of its own. Belongs to one event loop.

    Operations on one name run one after the other, in the order requested. An operation that was requested runs
    even if its caller is cancelled. At most two operations run at the same time.
    """

    def __init__(self, registry: AdapterRegistry, events: EventSink) -> None:
        self._registry, self._events = registry, events
        self._capacity = asyncio.Semaphore(_MAX_LOADS)
        # A lock exists only while an operation on its name runs or waits.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._threads: list[threading.Thread] = []

    async def load(self, name: str, reference: str) -> tuple[ServedName, ServedName | None]:
        """Load the version that `reference` means when the load starts, and serve it as `name`.

        Returns what serves now, and what served before. Raises what `AdapterRegistry.load` raises.
        """

        def work() -> tuple[ServedName, ServedName | None]:
            try:
                served, before = self._registry.load(reference, name)
            except OneTrunkError as error:
                self._events.load_failed(name, error)
                raise
            self._events.swapped(name, served.version, None if before is None else before.version)
            return served, before

        return await self._in_order(name, work)

    async def unload(self, name: str) -> None:
        """Take `name` out of service. Raises UsageError if nothing serves as `name` when the unload starts."""

        def work() -> None:
            self._registry.unload(name)
            self._events.unloaded(name)

        await self._in_order(name, work)

    def close(self) -> None:
        """Wait up to two seconds for running loads; those that take longer end with the process."""
        until = time.monotonic() + _CLOSE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    async def _in_order(self, name: str, work: Callable[[], T]) -> T:
        """Run `work` after all earlier operations on `name`, and return its result."""
        return await asyncio.shield(asyncio.create_task(self._run(name, work)))

    async def _run(self, name: str, work: Callable[[], T]) -> T:
        async with self._locks.setdefault(name, asyncio.Lock()), self._capacity:
            outcome, thread = start_thread(_contained, work)
            self._threads = [*(each for each in self._threads if each.is_alive()), thread]
            return await asyncio.wrap_future(outcome)


def _contained(work: Callable[[], T]) -> T:
    """Return the result of `work`; an exception that would end the event loop becomes a RuntimeError."""
    try:
        return work()
    except (StopIteration, SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"{error!r} was raised while loading") from error
