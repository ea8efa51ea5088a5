"""Services under more than they can do: a flood on one adapter, and five times what is possible in all."""

from __future__ import annotations

import statistics
import threading
import time
from functools import partial
from types import TracebackType
from typing import Any

from benchmarks.load.generator import Stream
from benchmarks.load.outcome import generate
from benchmarks.load.services import Ours, Service
from benchmarks.load.target import TARGET_MS, described
from benchmarks.load.traffic import Traffic, in_turns

STEADY = 0.4
"""Share of what is possible at which a service runs steadily."""
FLOOD = 10
"""How many times its share one adapter is asked for on top."""
OVERLOAD = 5


def run_flood(traffic: Traffic) -> dict[str, Any]:
    """Measure the others' times with and without a flood on the most popular adapter; return the record."""
    with traffic.started(Ours(), "ours fp32") as service:
        possible = traffic.saturated(service, traffic.lengths.short)["answered"]
        steady = traffic.stream(STEADY * possible)
        share = traffic.weights[0] / sum(traffic.weights)
        only_first = [1.0, *[0.0] * (len(traffic.weights) - 1)]
        flood = Stream(FLOOD * share * steady.rate * steady.texts, only_first)
        turns = {
            "no flood": partial(_flooded, traffic, service, [steady]),
            "with a flood": partial(_flooded, traffic, service, [steady, flood]),
        }
        rounds = in_turns(turns, traffic.lengths.rounds)
    variants: dict[str, dict[str, Any]] = {}
    for name, records in rounds.items():
        answered = [record["p95_ms"] for record in records if record["p95_ms"] is not None]
        middle = {"p95_ms": statistics.median(answered)} if answered else {}
        sums = {key: sum(record[key] for record in records) for key in ("requests", "refused", "failed")}
        variants[name] = {**records[-1], **middle, **sums, "status": "ok", "error": None}
    return {
        **described(traffic),
        "possible": possible,
        "steady": STEADY * possible,
        "flood": flood.rate,
        "flooded": traffic.stock.names[0],
        "times_p95": variants["with a flood"]["p95_ms"] / variants["no flood"]["p95_ms"],
        "variants": variants,
    }


def _flooded(traffic: Traffic, service: Service, streams: list[Stream], seed: int) -> dict[str, Any]:
    """Return the figures of the steady requests for all adapters but the one that is flooded."""
    outcome = generate(traffic.load(service, streams, traffic.lengths.seconds, seed))
    flooded = outcome.summary(lambda call: call.stream == 1)
    return {
        **outcome.summary(lambda call: call.stream == 0 and call.adapter != 0),
        "flood_answered": flooded["answered"],
        "flood_refused": flooded["refused"],
        "flood_p95_ms": flooded["p95_ms"],
    }


def run_overload(traffic: Traffic) -> dict[str, Any]:
    """Ask for five times what is possible, after half of it; return the record."""
    variants: dict[str, dict[str, Any]] = {}
    with traffic.started(Ours(), "ours fp32") as service:
        possible = traffic.saturated(service, traffic.lengths.short)["answered"]
        for name, times in (("1: half", 0.5), (f"2: × {OVERLOAD}", float(OVERLOAD)), ("3: half again", 0.5)):
            before = service.memory
            with MemoryWatch(service) as watch:
                figures = traffic.rate(service, times * possible, traffic.lengths.seconds)
            variants[name] = {
                "status": "ok",
                "error": None,
                **figures,
                "refused_share": figures["refused"] / max(1, figures["requests"]),
                "memory_before": before,
                "memory_most": max(watch.samples),
                "memory_after": service.memory,
            }
    return {**described(traffic), "target_ms": TARGET_MS, "possible": possible, "variants": variants}


class MemoryWatch:
    """Samples a service's memory, in bytes, while its block runs; `samples` has them."""

    def __init__(self, service: Service, every: float = 0.2) -> None:
        self._service, self._every = service, every
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.samples: list[int] = []
        self.times: list[float] = []

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        began = time.monotonic()
        while True:
            self.times.append(time.monotonic() - began)
            self.samples.append(self._service.memory)
            if self._done.wait(self._every):
                return
