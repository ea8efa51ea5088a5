"""Fair clocks: all variants in one process, taking turns, in another order every round."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

SETTLE = 0.05
"""Seconds of rest before each turn, in which the last variant's threads stop spinning."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The seconds of every timed call, by round."""

    rounds: tuple[tuple[float, ...], ...]

    @property
    def calls(self) -> list[float]:
        """All calls, in order of time."""
        return [seconds for calls in self.rounds for seconds in calls]

    @property
    def median(self) -> float:
        """Median of the rounds' medians: a disturbed round does not move it."""
        return statistics.median(map(statistics.median, self.rounds))

    @property
    def p95(self) -> float:
        """The time that 95 in 100 calls keep within (the longest, of fewer than twenty calls)."""
        ordered = sorted(self.calls)
        return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]

    def to_json(self) -> dict[str, Any]:
        """Return median and p95 of a call, how many there were, and each round's median; in seconds."""
        medians = [statistics.median(calls) for calls in self.rounds]
        return {"median": self.median, "p95": self.p95, "calls": len(self.calls), "round_medians": medians}


def synchronize(device: torch.device) -> None:
    """Wait until `device` has done what it was given; the CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleave(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    least: float,
    device: torch.device,
    settle: float = SETTLE,
) -> dict[str, Timing]:
    """Time each of `calls` once a round, for `least` seconds (one call at least); return the timings by name."""
    turns = {name: partial(_turn, call, least, device) for name, call in calls.items()}
    return take_turns(turns, rounds, settle)


def take_turns(
    turns: Mapping[str, Callable[[], tuple[float, ...]]], rounds: int, settle: float = SETTLE
) -> dict[str, Timing]:
    """Let each of `turns` have one a round; each says itself which seconds count.

    The order is drawn anew each round, so that none always runs behind the same other one.
    """
    timed: dict[str, list[tuple[float, ...]]] = {name: [] for name in turns}
    for round_number in range(rounds):
        order = list(turns)
        random.Random(round_number).shuffle(order)
        for name in order:
            time.sleep(settle)
            timed[name].append(turns[name]())
    return {name: Timing(tuple(own)) for name, own in timed.items()}


def _turn(call: Callable[[], object], least: float, device: torch.device) -> tuple[float, ...]:
    """Return the seconds of each call; the first one, on cold caches, is left out where there are others."""
    seconds: list[float] = []
    synchronize(device)
    while not seconds or sum(seconds) < least:
        start = time.perf_counter()
        call()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return tuple(seconds[1:] or seconds)
