"""Who is let in: a bound on what is accepted and not yet answered, shared fairly between adapters."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable

from onetrunk.core.serving.limits import Limits

MOST_SECONDS = 60
"""The longest wait that is advised: nobody knows what the load is after that."""
_BRIM = 1.5
"""How far above the limit those are let in who have less than their share."""
_MOST_COUNTED = 1 / 8
"""Share of the limit that the tokens of one adapter count for, at most, of what is let in above it."""
_KEPT = 0.9
"""What a batch before counts for in the measured speed, against the one after it."""
_UNKNOWN = 4
"""Full batches of each device thread that are let in before the speed is known."""


class Admission:
    """The tokens that are accepted and unanswered, by the name they are asked under. Safe to share between threads.

    The limit is what is answered within `queue_seconds` at the speed that is measured, but at least a batch and
    never over `queue_tokens`: what many requests cost by themselves, the device lacks, and then less may wait.
    Beyond it an adapter is still let in while it has less than an equal share of it, up to half as much again in
    all, of which each adapter counts for an eighth at most: neither a flood on one adapter nor a request larger
    than the limit shuts out the others.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.limit = min(limits.queue_tokens, _UNKNOWN * limits.workers * limits.batch_tokens)
        self.tokens = 0
        self._of: Counter[str] = Counter()
        self._counted = 0.0  # of each name no more than `_MOST_COUNTED`
        self._ran_tokens = self._ran_seconds = 0.0  # lately, the last batch counting most
        self._lock = threading.Lock()

    def admit(self, costs: Iterable[tuple[str, int]]) -> bool:
        """Count tokens by name, or return False where there is no room for one of the names."""
        asked = list(costs)
        with self._lock:
            if not all(self._has_room(name) for name in {name for name, _ in asked}):
                return False
            self._add(asked)
            return True

    def correct(self, costs: Iterable[tuple[str, int]]) -> None:
        """Count more tokens by name, or fewer where the number is negative."""
        with self._lock:
            self._add(costs)

    def busiest(self, names: Iterable[str]) -> str:
        """Return which of `names` has the most tokens."""
        with self._lock:
            return max(names, key=lambda name: self._of[name])

    def ran(self, tokens: int, seconds: float) -> None:
        """Hear of a batch that took a device thread so long; a small one tells nothing of the speed under load."""
        own = self._limits
        if 2 * tokens < own.batch_tokens:
            return
        with self._lock:
            self._ran_tokens = _KEPT * self._ran_tokens + tokens
            self._ran_seconds = _KEPT * self._ran_seconds + max(seconds, 1e-6)
            within = max(own.batch_tokens, int(self._speed * own.queue_seconds))
            self.limit = min(own.queue_tokens, within)

    def retry_after(self) -> int:
        """Return after how many seconds what is accepted now will have been answered, about."""
        with self._lock:
            seconds = self.tokens / self._speed if self._ran_seconds else 1.0
        return min(MOST_SECONDS, max(1, math.ceil(seconds)))

    @property
    def _speed(self) -> float:
        """Tokens a second, of all device threads together."""
        return self._limits.workers * self._ran_tokens / self._ran_seconds

    def _has_room(self, name: str) -> bool:
        if self.tokens < self.limit:
            return True
        sharing = len(self._of) + (name not in self._of)
        return self._counted < _BRIM * self.limit and self._of[name] < self.limit / sharing

    def _add(self, costs: Iterable[tuple[str, int]]) -> None:
        most = _MOST_COUNTED * self.limit
        for name, cost in costs:
            before = self._of[name]
            after = self._of[name] = before + cost
            self.tokens += cost
            self._counted += min(after, most) - min(before, most)
            if not after:
                del self._of[name]
