"""How many texts a second a service sustains while 95 in 100 requests are answered within the target."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks.equality import WrongOutput
from benchmarks.load.adapters import task_of
from benchmarks.load.answers import TOLERANCE, decision, distance, own_part
from benchmarks.load.generator import key_of
from benchmarks.load.services import Kind, Ours, PeftMixed, Pipelines, Service
from benchmarks.load.traffic import Traffic, in_turns, is_plain, median_by, solo
from onetrunk.core.backbones.kernels import has_int8, has_native_bf16
from onetrunk.core.inference.predictor import OneTrunk

TARGET_MS = 250.0
COMPARED = 4
"""Texts of each adapter that are compared before anything is timed."""
OTHER_DECISIONS = 0.1
"""Share of texts that a service in bf16 or int8 may decide otherwise: the adapters are random, and often unsure."""

KINDS: dict[str, Callable[[], Kind]] = {
    "ours fp32": Ours,
    "ours bf16": partial(Ours, "bf16"),
    "ours int8": partial(Ours, "int8"),
    "pipeline": Pipelines,
    "pipeline locked": partial(Pipelines, locked=True),
    "pipeline 1 thread": partial(Pipelines, threads=1),
    "peft mixed": PeftMixed,
}
"""Every service. Of the ways to run pipelines only the fastest is measured further."""


def run_target(traffic: Traffic, kinds: Mapping[str, Callable[[], Kind]]) -> dict[str, Any]:
    """Compare everyone's answers, then find in turns what each sustains; return the workload's record."""
    right = solo(OneTrunk(traffic.backbone, store=traffic.stock.store), traffic.texts, traffic.stock.versions)
    chosen = {name: make() for name, make in kinds.items()}
    records: dict[str, dict[str, Any]] = {
        name: {"status": "skipped", "reason": reason}
        for name, kind in chosen.items()
        if (reason := _unfit(kind, traffic))
    }
    with ExitStack() as stack:
        services = {
            name: stack.enter_context(kind.start(name, traffic.stock, traffic.place))
            for name, kind in chosen.items()
            if name not in records
        }
        for service in services.values():
            service.wait_ready()  # all of them, before anything is timed: a start keeps the processors busy
        for name, service in services.items():
            traffic.warm(service)
            records[name] = verdict(traffic, service, chosen[name], right)
        _keep_fastest(records)
        timed = {name: own for name, own in services.items() if records[name]["status"] == "ok"}
        for name, figures in _measured(traffic, timed, records).items():
            records[name] = {**records[name], **figures}
    return {
        "target_ms": TARGET_MS,
        **described(traffic),
        "variants": {name: records[name] for name in chosen},
    }


def _unfit(kind: Kind, traffic: Traffic) -> str | None:
    """Return why a service is not measured here, None if it is."""
    if not kind.mixed and len(set(map(task_of, traffic.stock.names))) > 1:
        return "PEFT's mixed batch has heads of one shape; see the workload of text adapters"
    device = traffic.backbone.device
    if kind.precision == "bf16" and not has_native_bf16(device):
        return f"{device} has no bf16 products of its own, and nobody would serve in it"
    if kind.precision == "int8" and not (device.type == "cpu" and has_int8()):
        return f"{device} has no int8 products"
    return None


def _measured(
    traffic: Traffic, services: Mapping[str, Service], records: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return what each service sustains, by rounds, its figures at fixed rates, and its memory after all that."""
    saturated = {name: records[name]["saturated"] for name in services}
    turns = {name: partial(_turn, traffic, own, saturated[name]) for name, own in services.items()}
    return {
        name: {
            **median_by(rounds, "sustained"),
            "rounds": [each["sustained"] for each in rounds],
            "rates": _rates(traffic, services[name], saturated[name]),
            "memory": services[name].memory,
        }
        for name, rounds in in_turns(turns, traffic.lengths.rounds).items()
    }


def described(traffic: Traffic) -> dict[str, Any]:
    """Return what a record says of its traffic."""
    encoded = traffic.backbone.encoder.encode(traffic.texts, [()] * len(traffic.texts))
    return {
        "adapters": len(traffic.stock.names),
        "texts_per_request": traffic.texts_per_request,
        "mean_tokens": statistics.mean(text.tokens for text in encoded),
        "seconds": traffic.lengths.seconds,
    }


def verdict(traffic: Traffic, service: Service, kind: Kind, right: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the answers of a service: `ok` with its error and its speed at saturation, or `failed`, with why."""
    exact = kind.precision == "fp32"
    record = {"precision": kind.precision, "kind_of_error": "largest" if exact else "decisions"}
    try:
        error = _error(traffic, service, right, exact)
    except WrongOutput as reason:
        return {**record, "status": "failed", "reason": str(reason)}
    saturated = traffic.saturated(service, traffic.lengths.short)["answered"]
    return {**record, "status": "ok", "error": error, "saturated": saturated}


def _error(traffic: Traffic, service: Service, right: Mapping[str, Any], exact: bool) -> float:
    """Return the largest error, or the share of other decisions where the service is not `exact`.

    A service that has words of its own is asked of entities only where everyone has the same words.
    """
    worst, other, asked = 0.0, 0, 0
    for number, (name, version) in enumerate(zip(traffic.stock.names, traffic.stock.versions, strict=True)):
        usable = [i for i, text in enumerate(traffic.texts) if task_of(name) != "ner" or is_plain(text)]
        for i in usable[COMPARED * number :][:COMPARED] or usable[:COMPARED]:
            found = own_part(service.predict(traffic.texts[i], name))
            expected = {key: right[key_of(version, i)][key] for key in found}
            worst = max(worst, distance(found, expected))
            other += decision(found) != decision(expected)
            asked += 1
    if exact and worst > TOLERANCE:
        raise WrongOutput(f"largest error {worst:.3g}, at most {TOLERANCE:g} is right")
    if other > OTHER_DECISIONS * asked:
        raise WrongOutput(f"{other} of {asked} texts are decided otherwise")
    return worst if exact else other / max(1, asked)


def _keep_fastest(records: dict[str, dict[str, Any]]) -> None:
    """Leave out the slower ways to run pipelines."""
    ways = [name for name, own in records.items() if name.startswith("pipeline") and own["status"] == "ok"]
    best = max(ways, key=lambda name: records[name]["saturated"], default="")
    for name in ways:
        if name != best:
            own, fastest = records[name]["saturated"], records[best]["saturated"]
            reason = f"slower than {best!r} at saturation: {own:.0f}, not {fastest:.0f} texts/s"
            records[name] = {**records[name], "status": "left out", "reason": reason}


def _turn(traffic: Traffic, service: Service, saturated: float, seed: int) -> dict[str, Any]:
    """Return what the service sustains, and the figures at that rate."""
    measure = partial(traffic.rate, service, seconds=traffic.lengths.seconds, seed=seed)
    return sustained(measure, 1.2 * saturated, traffic.lengths.steps)


def sustained(
    measure: Callable[[float], dict[str, Any]], highest: float, steps: int, target_ms: float = TARGET_MS
) -> dict[str, Any]:
    """Bisect for the highest rate at which nothing fails, nothing is refused and p95 is within the target.

    highest: a rate that is too much. Returns the figures at the rate that was found, and the rate as `sustained`; 0
    and no figures where not even the lowest rate that was tried is sustained.
    """
    low, high = 0.0, highest
    found: dict[str, Any] = {"sustained": 0.0, "p50_ms": None, "p95_ms": None, "p99_ms": None}
    for _ in range(steps):
        rate = (low + high) / 2
        figures = measure(rate)
        if keeps(figures, target_ms):
            low, found = rate, {"sustained": rate, **figures}
        else:
            high = rate
    return found


def keeps(figures: Mapping[str, Any], target_ms: float) -> bool:
    """Tell whether everything was answered, 95 in 100 within the target."""
    p95 = figures["p95_ms"]
    return not figures["failed"] and not figures["refused"] and p95 is not None and bool(p95 <= target_ms)


def _rates(traffic: Traffic, service: Service, saturated: float) -> dict[str, Any]:
    return {
        f"{rate:g}": traffic.rate(service, rate, traffic.lengths.seconds, seed=-2)
        for rate in traffic.lengths.rates
        if rate < saturated
    }
