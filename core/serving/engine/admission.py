"""Who is let in: a bound on what is accepted and not yet answered, shared fairly between adapters."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from onetrunk.core.serving.engine.limits import Limits

MOST_SECONDS = 60
"""The longest wait that is advised: nobody knows what the load is after that."""
_BRIM = 1.5
"""How many times the limit there is room for in all: what is beyond it is for who has little."""
_KEPT = 0.9
"""What a batch before counts for in the measured speed, against the one after it."""
_TELLING = 4
"""What part of a full batch tells of the speed under load: an adapter alone has half of one, and not quite."""
_UNKNOWN = 4
"""Full batches of each device thread that are thought to be answered in time before the speed is known."""


@dataclass(slots=True)
class _Waiting:
    """What is unanswered under a name. tokens; answered: tokens, those of a second ago by 1/e; at: as of when."""

    tokens: int
    answered: float
    at: float

    def rate(self, now: float) -> float:
        """Return how many tokens a second are answered."""
        return self.answered * math.exp(self.at - now)


class AdmissionControl:
    """The tokens that are accepted and unanswered, by the name they are asked under. Safe to share between threads.

    The limit is what is answered within `queue_seconds` at the speed that is measured, but at least a batch and
    never over `queue_tokens`: what many requests cost by themselves, the device lacks, and then less may wait.
    Up to it everybody is let in; beyond it who has no more than will be answered within `queue_seconds` at the rate
    at which that name is, or would be with an equal part of the speed; half above it nobody. So all wait about as
    long, whoever asks for how much. No name counts for more than the limit: one large text shuts nobody out.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self.limit = min(limits.queue_tokens, _UNKNOWN * limits.workers * limits.batch_tokens)
        self.tokens = 0
        self._of: dict[str, _Waiting] = {}
        self._counted = 0  # of each name no more than the limit
        # Lately, the last batch counting most; at first what is hoped for, as first batches are slow.
        self._ran_tokens, self._ran_seconds = float(_UNKNOWN * limits.batch_tokens), limits.queue_seconds
        self._lock = threading.Lock()

    def admit(self, costs: Iterable[tuple[str, int]]) -> set[str]:
        """Count tokens by name, or return the names that there is no room for, if any, and count none."""
        asked = list(costs)
        with self._lock:
            lacking = {name for name in {name for name, _ in asked} if not self._has_room(name)}
            if not lacking:
                self._add(asked)
            return lacking

    def correct(self, costs: Iterable[tuple[str, int]]) -> None:
        """Count more tokens by name, or fewer where the number is negative."""
        with self._lock:
            self._add(costs)

    def answered(self, costs: Iterable[tuple[str, int]]) -> None:
        """Count tokens by name as answered, and no more."""
        now, done = self._clock(), list(costs)
        with self._lock:
            for name, cost in done:
                if (own := self._of.get(name)) is not None:
                    own.answered, own.at = own.rate(now) + cost, now
            self._add((name, -cost) for name, cost in done)

    def busiest(self, names: Iterable[str]) -> str:
        """Return which of `names` has the most tokens."""
        with self._lock:
            return max(names, key=self._tokens_of)

    def ran(self, tokens: int, seconds: float) -> None:
        """Hear of a batch that took a device thread so long; a small one tells nothing of the speed under load."""
        own = self._limits
        if _TELLING * tokens < own.batch_tokens:
            return
        with self._lock:
            self._ran_tokens = _KEPT * self._ran_tokens + tokens
            self._ran_seconds = _KEPT * self._ran_seconds + max(seconds, 1e-6)
            within = max(own.batch_tokens, int(self._speed * own.queue_seconds))
            self.limit = min(own.queue_tokens, within)
            self._counted = sum(min(own.tokens, self.limit) for own in self._of.values())

    def retry_after(self) -> int:
        """Return after how many seconds what is accepted now will have been answered, about."""
        with self._lock:
            seconds = self.tokens / self._speed
        return min(MOST_SECONDS, max(1, math.ceil(seconds)))

    @property
    def _speed(self) -> float:
        """Tokens a second, of all device threads together."""
        return self._limits.workers * self._ran_tokens / self._ran_seconds

    def _tokens_of(self, name: str) -> int:
        own = self._of.get(name)
        return 0 if own is None else own.tokens

    def _has_room(self, name: str) -> bool:
        if self._counted >= _BRIM * self.limit:
            return False
        own = self._of.get(name)
        if own is None or self._counted < self.limit:
            return True
        in_time = self._limits.queue_seconds * own.rate(self._clock())
        return own.tokens < min(self.limit, max(in_time, self.limit / len(self._of)))

    def _add(self, costs: Iterable[tuple[str, int]]) -> None:
        now = self._clock()
        for name, cost in costs:
            own = self._of.setdefault(name, _Waiting(0, 0.0, now))
            before = min(own.tokens, self.limit)
            own.tokens += cost
            self.tokens += cost
            self._counted += min(own.tokens, self.limit) - before
            if not own.tokens:
                del self._of[name]
