"""Sliding-window statistics over the last minute: events per second and the 95th percentile of their durations."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque

_WINDOW_SECONDS = 60
_MAX_DURATIONS = 512
"""Number of durations that are kept for the percentile."""


class SlidingWindow:
    """Counts events and keeps their durations. Thread-safe.

    total: events since the window was created.
    """

    def __init__(self) -> None:
        self.total = 0
        self._counts: Counter[int] = Counter()  # events by the second in which they were recorded
        self._durations: deque[tuple[float, float]] = deque(maxlen=_MAX_DURATIONS)  # (time, duration)
        self._started = time.monotonic()
        self._lock = threading.Lock()

    def record(self, duration: float) -> None:
        """Count one event that took `duration` seconds."""
        now = time.monotonic()
        with self._lock:
            self.total += 1
            self._durations.append((now, duration))
            self._counts[int(now)] += 1
            if len(self._counts) > _WINDOW_SECONDS + 1:
                del self._counts[min(self._counts)]

    def rate(self) -> float:
        """Return the events per second over the last minute, or since the start if that is less."""
        now = time.monotonic()
        with self._lock:
            events = sum(count for second, count in self._counts.items() if second >= now - _WINDOW_SECONDS)
        return events / max(1.0, min(_WINDOW_SECONDS, now - self._started))

    def p95(self) -> float | None:
        """Return the 95th percentile, in seconds, of the last 512 durations; None if the last minute has none."""
        since = time.monotonic() - _WINDOW_SECONDS
        with self._lock:
            durations = sorted(duration for at, duration in self._durations if at >= since)
        return durations[math.ceil(0.95 * len(durations)) - 1] if durations else None
