"""What came of a load: who asked waits for it here."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.load.generator import Load

ROOT = Path(__file__).resolve().parents[2]
REFUSED = 429


class Call(NamedTuple):
    """A request, as the generator saw it.

    due: seconds after the beginning. late: seconds from then until it was sent; seconds: until it was answered.
    status: of HTTP, 207 where an input failed, 0 without a response. adapter: of its first text.
    """

    due: float
    late: float
    seconds: float
    status: int
    stream: int
    adapter: int
    texts: int

    @property
    def ended(self) -> float:
        """Seconds after the beginning."""
        return self.due + self.seconds


@dataclass(frozen=True, slots=True)
class Outcome:
    """All requests of a load, in the order they were answered.

    wall: seconds in which they were sent; total_wall: until the last was answered; cpu: seconds of the generator's
    own in all. wrong: some of the wrong answers.
    """

    calls: Sequence[Call]
    wall: float
    total_wall: float
    cpu: float
    unanswered: int
    checked: int
    wrong_count: int
    wrong: Sequence[str]

    @property
    def steady_rate(self) -> float:
        """Texts answered a second, from the end of the first quarter of the answers to the last one."""
        ends = sorted((own.ended, own.texts) for own in self.calls if own.status == 200)
        if not ends:
            return 0.0
        first = len(ends) // 4
        began = ends[first - 1][0] if first else 0.0
        return sum(texts for _, texts in ends[first:]) / (ends[-1][0] - began)

    def summary(self, chosen: Callable[[Call], bool] = lambda _: True) -> dict[str, Any]:
        """Return the figures of the calls that are `chosen`: counts, milliseconds, texts a second.

        Percentiles are those of what was answered; None where nothing was.
        """
        own = [call for call in self.calls if chosen(call)]
        answered = [call for call in own if call.status == 200]
        seconds = sorted(call.seconds for call in answered)
        refused = sum(call.status == REFUSED for call in own)
        within = sum(call.texts for call in answered if call.ended <= self.wall)
        return {
            "requests": len(own),
            "offered": sum(call.texts for call in own) / self.wall,
            "answered": within / self.wall,
            "refused": refused,
            "failed": len(own) - len(answered) - refused + self.unanswered,
            "statuses": {
                str(status): count for status, count in Counter(call.status for call in own).items()
            },
            **{f"p{share}_ms": milliseconds(seconds, share / 100) for share in (50, 95, 99)},
            "client_late_p99_ms": milliseconds(sorted(call.late for call in own), 0.99),
            "client_cpu": self.cpu / self.total_wall,
        }


def milliseconds(ordered: Sequence[float], share: float) -> float | None:
    """Return what `share` of some ascending seconds keep within, in milliseconds; None of nothing."""
    return 1e3 * ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


class Generator:
    """A generator at work in its own process."""

    def __init__(self, load: Load) -> None:
        line = [sys.executable, "-m", "benchmarks.load.generator"]
        self._process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(load)).encode())
        self._process.stdin.close()

    def outcome(self) -> Outcome:
        """Wait for the end and return what came of it. Raises RuntimeError if the generator failed."""
        assert self._process.stdout is not None
        printed = self._process.stdout.read()
        if self._process.wait():
            raise RuntimeError(
                f"the load generator ended with {self._process.returncode}; its error is above"
            )
        values = json.loads(printed)
        return Outcome(**{**values, "calls": [Call(*call) for call in values["calls"]]})


def generate(load: Load) -> Outcome:
    """Run a load to its end. Raises RuntimeError if the generator failed."""
    return Generator(load).outcome()
