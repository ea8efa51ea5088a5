"""Sliding-window statistics over the last minute: requests a second and p95 latency, in total and by name."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

from onetrunk.core.errors import OneTrunkError

if TYPE_CHECKING:
    from onetrunk.core.serving.engine.events import EventSink
    from onetrunk.core.serving.engine.requests import Result, TextRequest

WINDOW_SECONDS = 60
_MAX_TIMES = 512
"""Durations kept for the percentile."""


class SlidingWindow:
    """Counts events and keeps their durations. Thread-safe.

    total: events since the window was created.
    """

    def __init__(self) -> None:
        self.total = 0
        self._counts: deque[tuple[int, int]] = deque()  # (second, events in it), ascending
        self._durations: deque[tuple[float, float]] = deque(maxlen=_MAX_TIMES)  # (time, duration), ascending
        self._started = time.monotonic()
        self._lock = threading.Lock()

    def record(self, duration: float) -> None:
        """Count one event that took `duration` seconds."""
        now = time.monotonic()
        with self._lock:
            self.total += 1
            second, count = self._counts[-1] if self._counts else (-1, 0)
            if second == int(now):
                self._counts[-1] = (second, count + 1)
            else:
                self._counts.append((int(now), 1))
                self._drop_old(now)
            self._durations.append((now, duration))

    def rate(self) -> float:
        """Return the events a second over the last minute, or since the start if that is less."""
        now = time.monotonic()
        with self._lock:
            self._drop_old(now)
            events = sum(count for _, count in self._counts)
        return events / max(1.0, min(WINDOW_SECONDS, now - self._started))

    def p95(self) -> float | None:
        """Return the 95th percentile, in seconds, of the last 512 durations; None if the last minute has none."""
        since = time.monotonic() - WINDOW_SECONDS
        with self._lock:
            recent = tuple(self._durations)
        durations = sorted(duration for at, duration in recent if at >= since)
        return durations[math.ceil(0.95 * len(durations)) - 1] if durations else None

    def _drop_old(self, now: float) -> None:
        while self._counts and self._counts[0][0] < now - WINDOW_SECONDS:
            self._counts.popleft()


class RequestStatistics:
    """Records finished requests: in a sliding window of all, in one for each served name, and in an event sink."""

    def __init__(self, events: EventSink) -> None:
        self.requests = SlidingWindow()
        self._events = events
        self._by_name: dict[str, SlidingWindow] = {}

    def record(
        self,
        inputs: Sequence[TextRequest],
        results: Sequence[Result],
        seconds: float,
        served: Container[str],
    ) -> None:
        """Record a finished request.

        results: of each text in `inputs`.
        seconds: duration of the request.
        served: the names in service now; other names get no window.
        """
        self.requests.record(seconds)
        for given, result in zip(inputs, results, strict=True):
            if isinstance(result, OneTrunkError):
                self._events.failed(result)
                continue
            for name in given.adapters:
                self._events.answered(name, seconds)
                if name in served:
                    self._by_name.setdefault(name, SlidingWindow()).record(seconds)

    def of_name(self, name: str) -> SlidingWindow:
        """Return the window of a served name; an empty one if it has answered nothing."""
        return self._by_name.get(name) or SlidingWindow()

    def keep_only(self, served: Container[str]) -> None:
        """Drop the windows of names that are not in service any more."""
        for name in [name for name in self._by_name if name not in served]:
            del self._by_name[name]
