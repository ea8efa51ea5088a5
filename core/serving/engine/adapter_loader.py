"""Runs loads and unloads of adapters on threads, so that the event loop does not wait for files."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from onetrunk.core.serving.engine.cpu_threads import start_thread

_MAX_LOADS = 2
"""Maximum number of loads and unloads that run at the same time."""
_CLOSE_SECONDS = 2.0
"""Maximum time that `close` waits for running loads."""

T = TypeVar("T")


class AdapterLoader:
    """Runs each load and unload on a thread of its own. Belongs to one event loop.

    Operations on one name run one after the other, in the order requested.
    """

    def __init__(self) -> None:
        self._capacity = asyncio.Semaphore(_MAX_LOADS)
        # A lock exists only while an operation on its name runs or waits.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._threads: list[threading.Thread] = []

    async def run(self, name: str, work: Callable[[], T]) -> T:
        """Run `work` after all earlier operations on `name`, even if the caller is cancelled.

        Returns its result, or raises its exception; RuntimeError in place of an exception that would end the event
        loop.
        """
        return await asyncio.shield(asyncio.create_task(self._run(name, work)))

    def close(self) -> None:
        """Wait up to two seconds for running loads. Longer ones end with the process."""
        until = time.monotonic() + _CLOSE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    async def _run(self, name: str, work: Callable[[], T]) -> T:
        async with self._locks.setdefault(name, asyncio.Lock()), self._capacity:
            outcome, thread = start_thread(_contained, work)
            self._threads = [*(each for each in self._threads if each.is_alive()), thread]
            return await asyncio.wrap_future(outcome)


def _contained(work: Callable[[], T]) -> T:
    try:
        return work()
    except (StopIteration, SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"{error!r} was raised while loading") from error
