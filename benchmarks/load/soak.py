"""A long mixed load while adapters are swapped and loads fail: every answer is the right one of its version."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.load.adapters import BROKEN
from benchmarks.load.generator import Stream
from benchmarks.load.outcome import Generator
from benchmarks.load.services import Ours, Service
from benchmarks.load.stress import STEADY, MemoryWatch
from benchmarks.load.target import described
from benchmarks.load.traffic import Traffic, solo
from onetrunk.core.inference.predictor import OneTrunk

SWAP_EVERY, FAIL_EVERY = 2.0, 10.0
"""Seconds between swaps, and between loads that must fail."""
TEXTS = 48
"""Texts, few enough that every version is asked each of them alone beforehand."""
LONG = 16
"""Texts of the larger requests, which bring half of the texts."""


def run_soak(traffic: Traffic) -> dict[str, Any]:
    """Load the service for `lengths.soak` seconds, swap and fail meanwhile; return the workload's record."""
    own = replace(traffic, texts=list(dict.fromkeys(traffic.texts))[:TEXTS], texts_per_request=1)
    trunk = OneTrunk(own.backbone, store=own.stock.store)
    right = solo(trunk, own.texts, [own.stock.spare, *own.stock.versions])
    with own.started(Ours(), "ours fp32") as service:
        possible = own.saturated(service, own.lengths.short)["answered"]
        half = STEADY * possible / 2
        streams = [Stream(half, own.weights), Stream(half / LONG, own.weights, LONG)]
        load = replace(own.load(service, streams, own.lengths.soak), expected=right)
        generator = Generator(load)
        with MemoryWatch(service, every=1.0) as watch:
            managed = _manage(own, service, own.lengths.soak)
            outcome = generator.outcome()
    figures = {
        **outcome.summary(),
        "checked": outcome.checked,
        "wrong_count": outcome.wrong_count,
        "wrong": list(outcome.wrong),
        **managed,
        **_growth(watch.times, watch.samples),
    }
    passed = not (figures["failed"] or figures["refused"] or outcome.wrong_count or managed["surprises"])
    variant = {"status": "ok" if passed else "failed", "error": None, **figures}
    if not passed:
        variant["reason"] = "; ".join([*outcome.wrong[:1], *managed["surprises"][:1]]) or "a request failed"
    length = {"seconds": own.lengths.soak, "possible": possible}
    return {**described(own), **length, "variants": {"ours fp32": variant}}


def _manage(traffic: Traffic, service: Service, seconds: float) -> dict[str, Any]:
    """Swap two versions of the first adapter, and try loads that must fail, until the time is over."""
    stock, began = traffic.stock, time.monotonic()
    done: Counter[str] = Counter()
    times: list[float] = []
    surprises: list[str] = []
    versions, swaps = [stock.spare, stock.versions[0]], 0
    next_swap, next_failure = SWAP_EVERY, FAIL_EVERY / 4
    while (now := time.monotonic() - began) < seconds:
        if now >= next_swap:
            wanted = versions[swaps % 2]
            start = time.monotonic()
            status, body = service.ask("PUT", f"/v1/adapters/{stock.names[0]}", {"ref": wanted})
            times.append(time.monotonic() - start)
            done["swaps"] += 1
            if status != 200 or body["version"] != wanted:
                surprises.append(f"a swap to {wanted} gave {status}: {body}")
            swaps, next_swap = swaps + 1, next_swap + SWAP_EVERY
        if now >= next_failure:
            name = stock.names[done["failing loads"] % len(stock.names)]
            before = service.ask("GET", f"/v1/adapters/{name}")[1]["version"]
            status, body = service.ask("PUT", f"/v1/adapters/{name}", {"ref": BROKEN})
            after = service.ask("GET", f"/v1/adapters/{name}")[1]["version"]
            done["failing loads"] += 1
            if not 400 <= status < 500 or after != before:
                surprises.append(f"a load of {BROKEN} as {name} gave {status}: {body}; it serves {after}")
            next_failure += FAIL_EVERY
        time.sleep(max(0.0, min(next_swap, next_failure, seconds) - (time.monotonic() - began)))
    slowest = 1e3 * max(times, default=0.0)
    return {"done": dict(done), "slowest_swap_ms": slowest, "surprises": surprises[:5]}


def _growth(times: Sequence[float], samples: Sequence[int]) -> dict[str, Any]:
    """Return how memory went: bytes at first, after a fifth of the time, most and last, and bytes a minute since.

    The first fifth is left out, in which allocators still grow to what they need.
    """
    since = len(samples) // 5
    late, when = samples[since:], times[since:]
    slope = statistics.linear_regression(when, late).slope if len(late) > 1 else 0.0
    kept = {"memory_first": samples[0], "memory_fifth": late[0], "memory_most": max(samples)}
    return {**kept, "memory_last": samples[-1], "memory_per_minute": 60 * slope}
