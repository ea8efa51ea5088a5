"""What has been going on lately: requests a second and the 95th percentile of their times, of the last minute."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Container, Iterable

WINDOW = 60
"""Seconds that are looked back."""
_KEPT = 512
"""Times that are kept for the percentile."""


class SlidingWindow:
    """Counts and times of one thing. Safe to share between threads."""

    def __init__(self) -> None:
        self.total = 0
        self._seconds: deque[tuple[int, int]] = deque()  # (second, how many), ascending
        self._times: deque[tuple[float, float]] = deque(maxlen=_KEPT)
        self._born = time.monotonic()
        self._lock = threading.Lock()

    def record(self, seconds: float, count: int = 1) -> None:
        """Count something that took `seconds`."""
        now = time.monotonic()
        with self._lock:
            self.total += count
            second, known = self._seconds[-1] if self._seconds else (-1, 0)
            if second == int(now):
                self._seconds[-1] = (second, known + count)
            else:
                self._seconds.append((int(now), count))
                self._forget(now)
            self._times.append((now, seconds))

    def rate(self) -> float:
        """Return how many a second there were over the last minute, or since the beginning if that is less."""
        now = time.monotonic()
        with self._lock:
            self._forget(now)
            counted = sum(count for _, count in self._seconds)
        return counted / max(1.0, min(WINDOW, now - self._born))

    def p95(self) -> float | None:
        """Return the 95th percentile, in seconds, of the last 512 times of the last minute; None without any."""
        since = time.monotonic() - WINDOW
        with self._lock:
            known = tuple(self._times)
        times = sorted(taken for at, taken in known if at >= since)
        return times[math.ceil(0.95 * len(times)) - 1] if times else None

    def _forget(self, now: float) -> None:
        while self._seconds and self._seconds[0][0] < now - WINDOW:
            self._seconds.popleft()


class AdapterStatistics:
    """What has been going on under each name that serves."""

    def __init__(self) -> None:
        self._of: dict[str, SlidingWindow] = {}

    def record(self, names: Iterable[str], seconds: float, serving: Container[str]) -> None:
        """Count something of `names` that took `seconds`; those that do not serve any more are forgotten."""
        for name in names:
            if name in serving:
                self._of.setdefault(name, SlidingWindow()).record(seconds)
            else:
                self._of.pop(name, None)

    def of(self, name: str) -> SlidingWindow:
        """Return what has been going on under `name`."""
        return self._of.get(name) or SlidingWindow()

    def forget(self, name: str) -> None:
        """Forget `name`, which was taken out of service."""
        self._of.pop(name, None)
