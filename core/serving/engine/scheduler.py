"""The scheduler: a fair queue, and device threads, which take batches from it and compute them."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping

from onetrunk.core.serving.engine.cpu_threads import lower_priority
from onetrunk.core.serving.engine.fair_queue import FairQueue
from onetrunk.core.serving.engine.requests import WorkItem

_MIN_SPLIT_TOKENS = 64
"""Fewer queued tokens are not split between idle device threads: two small batches are hardly faster than one."""
_RECENT_REQUESTS = 64
"""Number of recent requests that are inspected to detect a flood."""
_FLOOD_SECONDS = 1.0
"""Seconds for which a name is demoted after a flood was detected."""
_log = logging.getLogger(__name__)


class Scheduler:
    """Queues work items, and computes them in batches on its device threads. Thread-safe.

    compute: computes a batch, on a device thread; an exception that it raises is logged.
    tokens: maximum tokens of a batch; a longer text is a batch of its own.
    wait: seconds that an idle device thread waits for a batch to fill.
    workers: number of device threads.
    """

    def __init__(
        self, compute: Callable[[list[WorkItem]], None], tokens: int, wait: float, workers: int = 1
    ) -> None:
        self._compute, self._tokens, self._wait = compute, tokens, wait
        self._queue: FairQueue[WorkItem] = FairQueue()
        self._gathering = threading.Lock()  # held by the one thread that waits for its next batch
        self._changed = threading.Condition()
        self._idle = workers
        # The last requests: None for an admitted one, and for a refused one the names without capacity.
        self._recent: deque[str | None] = deque(maxlen=_RECENT_REQUESTS)
        self._flooding, self._flood_ends = "", 0.0
        self._closing = False
        self._threads = [
            threading.Thread(target=self._loop, name=f"onetrunk-device-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> tuple[int, int]:
        """The number of queued texts, and the sum of their tokens."""
        with self._changed:
            return len(self._queue), self._queue.tokens

    @property
    def alive(self) -> bool:
        """Whether all device threads run."""
        return all(thread.is_alive() for thread in self._threads)

    def put(self, items: Iterable[WorkItem]) -> None:
        """Queue the items of a request."""
        with self._changed:
            self._recent.append(None)
            for item in items:
                item.queued_at = time.perf_counter()
                self._queue.put(item.queue_name, sum(item.costs), item)
            self._changed.notify()

    def drop(self, items: Iterable[WorkItem]) -> list[WorkItem]:
        """Remove from the queue those items that are still in it, and return them."""
        with self._changed:
            return [item for item in items if self._queue.drop(item.queue_name, item)]

    def charge(self, tokens: Mapping[str, int]) -> None:
        """Charge each name the tokens by which its items cost more than estimated; negative if they cost less."""
        with self._changed:
            for name, more in tokens.items():
                self._queue.charge(name, more)

    def refused(self, names: Iterable[str]) -> None:
        """Record that a request was refused because `names` had no capacity left, and detect a flood.

        A name floods if it was refused in more than half of the recent requests. It is then demoted for one second:
        it adds at most one item to each batch of other names, and gets batches of its own (of half the size) only
        while more than half of the device threads are idle. It therefore keeps about half of the capacity. When the
        flood ends, the requests of the name are admitted again, and the demotion is not repeated.
        """
        with self._changed:
            self._recent.extend(names)
            name, count = Counter(self._recent).most_common(1)[0]
            if name is not None and 2 * count > _RECENT_REQUESTS:
                self._flooding, self._flood_ends = name, time.perf_counter() + _FLOOD_SECONDS

    def close(self) -> None:
        """Compute everything that is queued, then end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        for thread in self._threads:
            thread.join()

    def _loop(self) -> None:
        lower_priority()
        while batch := self._next_batch():
            try:
                self._compute(batch)
            except BaseException:  # also SystemExit, because it must not end the thread
                _log.exception("an error escaped from the computation of a batch of %d texts", len(batch))
            with self._changed:
                self._idle += 1
                self._changed.notify()

    def _next_batch(self) -> list[WorkItem]:
        """Wait for the next batch. Returns an empty list if the scheduler closes and nothing is queued."""
        with self._gathering, self._changed:
            while not (batch := self._take()) and not (self._closing and not self._queue):
                if self._queue:  # only items of the demoted name: wait for the end of its demotion
                    self._changed.wait(max(0.0, self._flood_ends - time.perf_counter()))
                else:
                    self._changed.wait()
                    self._fill()
            self._idle -= 1
            return batch

    def _fill(self) -> None:
        """Return when a full batch is queued, or after `wait` seconds."""
        until = time.perf_counter() + self._wait
        while self._queue.tokens < self._tokens and not self._closing:
            if not self._changed.wait(max(0.0, until - time.perf_counter())):
                return

    def _take(self) -> list[WorkItem]:
        """Take this thread's share of the queued tokens. Returns an empty list if no item may be taken now."""
        share = -(-self._queue.tokens // self._idle)
        budget = min(self._tokens, max(_MIN_SPLIT_TOKENS, share))
        flooded = time.perf_counter() < self._flood_ends and not self._queue.is_alone(self._flooding)
        if not flooded or self._closing:
            return self._queue.take(budget)
        if 2 * self._idle > len(
            self._threads
        ):  # a small batch, because other names may need this thread soon
            return self._queue.take(min(budget, self._tokens // 2))
        return self._queue.take(budget, demoted=self._flooding)
