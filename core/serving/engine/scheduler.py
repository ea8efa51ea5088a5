"""The scheduler: a fair queue, and device threads, which take batches from it and compute them."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeAlias, cast

from onetrunk.core.serving.engine.cpu_threads import lower_priority
from onetrunk.core.serving.engine.fair_queue import FairQueue
from onetrunk.core.serving.engine.requests import Flow, WorkItem
from onetrunk.core.serving.engine.split_text import TextPart

_MIN_SPLIT_TOKENS = 64
"""Fewer queued tokens are not split between idle device threads: two small batches are hardly faster than one."""
_RECENT_REQUESTS = 64
"""Number of recent requests that are inspected to detect a flood."""
_FLOOD_SECONDS = 1.0
"""Seconds for which a flow is demoted after a flood was detected."""
_log = logging.getLogger(__name__)

Queued: TypeAlias = WorkItem | TextPart
"""What waits in the queue: a text, or a part of a text that is too long for one batch."""


class Scheduler:
    """Queues texts and parts of texts, and computes them in batches on its device threads. Thread-safe.

    compute: computes a batch, on a device thread; an exception that it raises is logged.
    tokens: maximum tokens of a batch; a longer item is a batch of its own.
    wait: seconds that an idle device thread waits for a batch to fill.
    workers: number of device threads.
    """

    def __init__(
        self, compute: Callable[[list[Queued]], None], tokens: int, wait: float, workers: int = 1
    ) -> None:
        self._compute, self._tokens, self._wait = compute, tokens, wait
        self._queue: FairQueue[Queued] = FairQueue()
        self._gathering = threading.Lock()  # held by the one thread that waits for its next batch
        self._changed = threading.Condition()
        self._idle = workers
        # The last requests: None for an admitted one, and for a refused one the flows without capacity.
        self._recent: deque[Flow | None] = deque(maxlen=_RECENT_REQUESTS)
        self._flooding, self._flood_ends = Flow("", ""), 0.0
        self._closing = False
        self._threads = [
            threading.Thread(target=self._loop, name=f"onetrunk-device-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> tuple[int, int]:
        """The number of queued items, and the sum of their tokens."""
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
                self._queue.put(item.flow, item.cost, item)
            self._changed.notify()

    def put_back(self, parts: Sequence[TextPart]) -> None:
        """Queue parts of texts, before the other items of their flows."""
        with self._changed:
            for part in reversed(parts):
                part.queued_at = time.perf_counter()
                self._queue.put(part.flow, part.cost, part, front=True)
            self._changed.notify()

    def take_urgent(self, tokens: int, running: Collection[Flow]) -> list[Queued]:
        """Return items of at most `tokens` tokens, or one item, for a device thread that computes another batch.

        running: the flows of that batch, which get nothing; nor do long texts, nor a flow that is demoted.
        """

        def accept(name: object) -> bool:
            flow = cast("Flow", name)
            return not flow.long and flow not in running and flow != flooding

        with self._changed:
            flooding = self._flooding if time.perf_counter() < self._flood_ends else None
            return self._queue.take_some(tokens, accept) if self._queue else []

    def drop(self, items: Iterable[Queued]) -> list[Queued]:
        """Remove from the queue those items that are still in it, and return them."""
        with self._changed:
            return [item for item in items if self._queue.drop(item.flow, item)]

    def charge(self, tokens: Mapping[Flow, int]) -> None:
        """Charge each flow the tokens by which its items cost more than estimated; negative if they cost less."""
        with self._changed:
            for name, more in tokens.items():
                self._queue.charge(name, more)

    def refused(self, flows: Iterable[Flow]) -> None:
        """Record that a request was refused because `flows` had no capacity left, and detect a flood.

        A flow floods if it was refused in more than half of the recent requests. It is then demoted for one second:
        it adds at most one item to each batch of other flows, and gets batches of its own (of half the size) only
        while more than half of the device threads are idle. It therefore keeps about half of the capacity. When the
        flood ends, the requests of the flow are admitted again, and the demotion is not repeated.
        """
        with self._changed:
            self._recent.extend(flows)
            flow, count = Counter(self._recent).most_common(1)[0]
            if flow is not None and 2 * count > _RECENT_REQUESTS:
                self._flooding, self._flood_ends = flow, time.perf_counter() + _FLOOD_SECONDS

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

    def _next_batch(self) -> list[Queued]:
        """Wait for the next batch. Returns an empty list if the scheduler closes and nothing is queued."""
        with self._gathering, self._changed:
            while not (batch := self._take()) and not (self._closing and not self._queue):
                if self._queue:  # only items of the demoted flow: wait for the end of its demotion
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

    def _take(self) -> list[Queued]:
        """Take this thread's share of the queued tokens. Returns an empty list if no item may be taken now."""
        share = -(-self._queue.tokens // self._idle)
        budget = min(self._tokens, max(_MIN_SPLIT_TOKENS, share))
        flooded = time.perf_counter() < self._flood_ends and not self._queue.is_alone(self._flooding)
        if not flooded or self._closing:
            return self._queue.take(budget)
        if 2 * self._idle > len(
            self._threads
        ):  # a small batch, because other flows may need this thread soon
            return self._queue.take(min(budget, self._tokens // 2))
        return self._queue.take(budget, demoted=self._flooding)
