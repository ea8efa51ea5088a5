"""Runs loads and unloads of adapters on threads, so that the event loop does not wait for files."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar
from weakref import WeakValueDictionary

from onetrunk.core.serving.engine.cpu_threads import start_thread
from onetrunk.core.serving.engine.errors import LoadTimeout, ShuttingDown

_MAX_LOADS = 2
"""Maximum number of loads from the store that run at the same time; likewise of loads from a remote."""
_CLOSE_SECONDS = 2.0
"""Maximum time that `close` waits for running loads."""

T = TypeVar("T")
GivenUp: TypeAlias = Callable[[], bool]
"""Returns whether an operation has exceeded its time limit: it must then change nothing."""


class AdapterLoader:
    """Runs each load and unload on a thread of its own. Belongs to one event loop.

    Operations on one name run one after the other, in the order requested. Loads from the store do not wait for
    loads of other names from a remote, which may take minutes.

    seconds: time limit of an operation, including the wait for earlier ones.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._from_store = asyncio.Semaphore(_MAX_LOADS)
        self._from_remote = asyncio.Semaphore(_MAX_LOADS)
        # A lock exists only while an operation on its name runs or waits.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._threads: list[threading.Thread] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopped = False

    async def run(self, name: str, work: Callable[[GivenUp], T], *, remote: bool = False) -> T:
        """Run `work` after all earlier operations on `name`, even if the caller is cancelled.

        remote: whether it downloads something.
        Returns its result, or raises its exception; RuntimeError in place of an exception that would end the event
        loop. Raises LoadTimeout after the time limit, and ShuttingDown after `stop`; the thread then ends later,
        without an effect.
        """
        if self._stopped:
            raise ShuttingDown
        task = asyncio.create_task(self._run(name, work, remote))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._stopped and task.cancelled():
                raise ShuttingDown from None
            raise

    def stop(self) -> None:
        """Give up all operations, and refuse new ones."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()

    def close(self) -> bool:
        """Wait up to two seconds for running loads. Returns whether all have ended; the process ends the others."""
        until = time.monotonic() + _CLOSE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    async def _run(self, name: str, work: Callable[[GivenUp], T], remote: bool) -> T:
        capacity = self._from_remote if remote else self._from_store
        given_up = threading.Event()
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._locks.setdefault(name, asyncio.Lock()),
                capacity,
            ):
                outcome, thread = start_thread(_contained, work, given_up.is_set)
                self._threads = [*(each for each in self._threads if each.is_alive()), thread]
                return await asyncio.wrap_future(outcome)
        except TimeoutError:
            raise LoadTimeout(name, self._seconds) from None
        finally:
            given_up.set()


def _contained(work: Callable[[GivenUp], T], given_up: GivenUp) -> T:
    try:
        return work(given_up)
    except (StopIteration, SystemExit, KeyboardInterrupt, TimeoutError) as error:
        raise RuntimeError(f"{error!r} was raised while loading") from error
