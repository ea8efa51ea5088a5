"""The device threads: each takes a batch from the fair queue, and the next, as long as something waits."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping

from onetrunk.core.serving.engine.cpu_threads import lower_priority
from onetrunk.core.serving.engine.fair_queue import FairQueue
from onetrunk.core.serving.engine.requests import WorkItem

_LEAST = 64
"""Tokens that are not split between device threads: they take one thread little longer than half of them would."""
_LATELY = 64
"""Requests that are looked back to know whether most are one flow's and refused."""
_FLOOD_SECONDS = 1.0
"""How long a flow counts as a flood after something of it was refused."""
_log = logging.getLogger(__name__)


class Scheduler:
    """A queue and the threads that empty it.

    answer: does all of a batch, on a device thread; what it raises is logged.
    tokens: of a batch, at most; a longer text is a batch of its own.
    wait: seconds that the first of a batch that is not full waits for more; only an idle device waits.
    workers: device threads, each with a batch of its own.
    """

    def __init__(
        self, answer: Callable[[list[WorkItem]], None], tokens: int, wait: float, workers: int = 1
    ) -> None:
        self._answer, self._tokens, self._wait = answer, tokens, wait
        self._queue: FairQueue[WorkItem] = FairQueue()
        self._turn = threading.Lock()  # of the one thread that gathers a batch, as long as it waits, too
        self._changed = threading.Condition()
        self._idle = workers
        self._asked: deque[str | None] = deque(maxlen=_LATELY)  # the flow of what was refused, else None
        self._flood, self._flood_ends = "", 0.0
        self._closing = False
        self._threads = [
            threading.Thread(target=self._run, name=f"onetrunk-device-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> tuple[int, int]:
        """How many texts wait, and how many tokens they cost."""
        with self._changed:
            return len(self._queue), self._queue.tokens

    @property
    def alive(self) -> bool:
        """Whether what is put will be answered."""
        return all(thread.is_alive() for thread in self._threads)

    def put(self, works: Iterable[WorkItem]) -> None:
        """Add the works of a request to the queue."""
        with self._changed:
            self._asked.append(None)
            for work in works:
                work.since = time.perf_counter()
                work.place = self._queue.put(work.flow, sum(work.costs), work)
            self._changed.notify()

    def drop(self, works: Iterable[WorkItem]) -> list[WorkItem]:
        """Take out of the queue those works that still wait, and return them."""
        with self._changed:
            return [work for work in works if work.place is not None and self._queue.drop(work.place)]

    def charge(self, tokens: Mapping[str, int]) -> None:
        """Have flows pay for what their works, which were taken, turned out to cost more than was guessed."""
        with self._changed:
            for flow, more in tokens.items():
                self._queue.charge(flow, more)

    def refused(self, flows: Iterable[str]) -> None:
        """Hear of a request that was not let in, as there was no room for some flows.

        Where most of what is asked is of one flow and refused, that flow is a guest of the others for a while: it
        rides with their batches, and has some of its own where half of the threads have nothing else to do. That
        leaves it half of what the device can do, so that it ends with the flood, and not by itself goes on.
        """
        with self._changed:
            self._asked.extend(flows)
            flow, count = Counter(self._asked).most_common(1)[0]
            if flow is not None and 2 * count > _LATELY:
                self._flood, self._flood_ends = flow, time.perf_counter() + _FLOOD_SECONDS

    def close(self) -> None:
        """Answer what waits, then end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        lower_priority()
        while batch := self._next():
            try:
                self._answer(batch)
            except BaseException:  # even an exit: without its threads nothing is answered any more
                _log.exception("what follows a batch of %d texts failed", len(batch))
            with self._changed:
                self._idle += 1
                self._changed.notify()

    def _next(self) -> list[WorkItem]:
        """Return the next batch, as soon as there is one; nothing when all is done and the batcher closes."""
        with self._turn, self._changed:
            while not (batch := self._take()) and not (self._closing and not self._queue):
                if self._queue:  # a guest waits, at most until it is none any more
                    self._changed.wait(max(0.0, self._flood_ends - time.perf_counter()))
                else:
                    self._changed.wait()
                    self._gather()
            self._idle -= 1
            return batch

    def _gather(self) -> None:
        """Return when a whole batch waits, or the first of it has waited long enough."""
        until = time.perf_counter() + self._wait
        while self._queue.tokens < self._tokens and not self._closing:
            if not self._changed.wait(max(0.0, until - time.perf_counter())):
                return

    def _take(self) -> list[WorkItem]:
        """Return what is to be done next of what waits, if there is anything."""
        budget = min(self._tokens, max(_LEAST, -(-self._queue.tokens // self._idle)))
        flooded = time.perf_counter() < self._flood_ends and not self._queue.alone(self._flood)
        if not flooded or self._closing:
            return self._queue.take(budget)
        if 2 * self._idle > len(self._threads):
            return self._queue.take(min(budget, self._tokens // 2))  # others will come before it is done
        return self._queue.take(budget, guest=self._flood)
