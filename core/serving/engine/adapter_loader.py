"""Loads and unloads beside the event loop: those of one name in the order asked, and none holds the end up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from onetrunk.core.errors import OneTrunkError
from onetrunk.core.inference.registry import AdapterRegistry, ServedName
from onetrunk.core.serving.engine.cpu_threads import begin
from onetrunk.core.serving.engine.events import Observer

AT_ONCE = 2
"""Loads that take place at the same time; of one name, one after the other."""
PATIENCE = 2.0
"""Seconds that `close` waits for what is under way."""

T = TypeVar("T")


class Loader:
    """Puts versions in service and takes them out, each on a thread of its own. Belongs to one event loop.

    What was asked takes place even if whoever asked stops waiting. What waits for its turn takes up none of the
    places of `AT_ONCE`.
    """

    def __init__(self, registry: AdapterRegistry, observer: Observer) -> None:
        self._registry, self._observer = registry, observer
        self._places = asyncio.Semaphore(AT_ONCE)
        self._last: dict[str, asyncio.Task[Any]] = {}  # what was asked last of each name with something to do
        self._threads: list[threading.Thread] = []

    async def load(self, name: str, reference: str) -> tuple[ServedName, ServedName | None]:
        """Put in service as `name` what `reference` means at its turn; return it and what it replaced.

        Raises what `AdapterRegistry.load` raises.
        """

        def work() -> tuple[ServedName, ServedName | None]:
            try:
                post, before = self._registry.load(reference, name)
            except OneTrunkError as error:
                self._observer.load_failed(name, error)
                raise
            self._observer.swapped(name, post.version, None if before is None else before.version)
            return post, before

        return await self._in_turn(name, work)

    async def unload(self, name: str) -> None:
        """Take `name` out of service. Raises UsageError if nothing serves under it at its turn."""

        def work() -> None:
            self._registry.unload(name)
            self._observer.unloaded(name)

        await self._in_turn(name, work)

    def close(self) -> None:
        """Wait a little for what is under way; what takes longer ends with the process."""
        until = time.monotonic() + PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    async def _in_turn(self, name: str, work: Callable[[], T]) -> T:
        """Return what `work` returns, which begins after all that was asked of `name` before."""
        task = asyncio.create_task(self._after(self._last.get(name), work))
        self._last[name] = task
        task.add_done_callback(lambda _: self._forget(name, task))
        return await asyncio.shield(task)

    async def _after(self, earlier: asyncio.Task[Any] | None, work: Callable[[], T]) -> T:
        if earlier is not None:
            await asyncio.wait([earlier])
        async with self._places:
            outcome, thread = begin(_contained, work)
            self._threads = [*(each for each in self._threads if each.is_alive()), thread]
            return await asyncio.wrap_future(outcome)

    def _forget(self, name: str, task: asyncio.Task[Any]) -> None:
        if self._last[name] is task:
            del self._last[name]


def _contained(work: Callable[[], T]) -> T:
    """Return what `work` returns; what would end the event loop (a plugin's `sys.exit`) fails the load alone."""
    try:
        return work()
    except (StopIteration, SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"{error!r} was raised while loading") from error
