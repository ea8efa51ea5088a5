"""The device thread: takes batches from the fair queue, one after the other, as long as something waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from onetrunk.core.serving.fair_queue import FairQueue
from onetrunk.core.serving.work import Work

_log = logging.getLogger(__name__)


class Batcher:
    """A queue and the thread that empties it.

    answer: does all of a batch, on the device thread; what it raises is logged.
    tokens: of a batch, at most; a longer text is a batch of its own.
    wait: seconds that the first of a batch that is not full waits for more; only an idle device waits.
    """

    def __init__(self, answer: Callable[[list[Work]], None], tokens: int, wait: float) -> None:
        self._answer, self._tokens, self._wait = answer, tokens, wait
        self._queue: FairQueue[Work] = FairQueue()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="onetrunk-device", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> tuple[int, int]:
        """How many texts wait, and how many tokens they cost."""
        with self._changed:
            return len(self._queue), self._queue.tokens

    @property
    def alive(self) -> bool:
        """Whether what is put will be answered."""
        return self._thread.is_alive()

    def put(self, works: Iterable[Work]) -> None:
        """Add works to the queue."""
        with self._changed:
            for work in works:
                work.since = time.perf_counter()
                work.place = self._queue.put(work.flow, sum(work.costs), work)
            self._changed.notify()

    def drop(self, works: Iterable[Work]) -> list[Work]:
        """Take out of the queue those works that still wait, and return them."""
        with self._changed:
            return [work for work in works if work.place is not None and self._queue.drop(work.place)]

    def close(self) -> None:
        """Answer what waits, then end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            try:
                self._answer(batch)
            except BaseException:  # even an exit: without this thread nothing is answered any more
                _log.exception("what follows a batch of %d texts failed", len(batch))

    def _next(self) -> list[Work]:
        """Return the next batch, as soon as there is one; nothing when all is done and the batcher closes."""
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
                until = time.perf_counter() + self._wait
                while self._queue.tokens < self._tokens and not self._closing:
                    if not self._changed.wait(max(0.0, until - time.perf_counter())):
                        break
            return self._queue.take(self._tokens)
