"""The load benchmark's results as Markdown tables: columns by the kind of workload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.report import markdown

Column = tuple[str, str, Callable[[Any], str]]
"""Heading, key of the record, how its value is written."""


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _short(value: float) -> str:
    return f"{value:.2f}"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _mebibytes(value: float) -> str:
    return f"{value / 2**20:.0f}"


def _slope(value: float) -> str:
    return f"{value / 2**20:+.2f}"


def _error(value: float) -> str:
    return f"{value:.1e}"


_TIMES: tuple[Column, ...] = (
    ("p50 ms", "p50_ms", _whole),
    ("p95 ms", "p95_ms", _whole),
    ("p99 ms", "p99_ms", _whole),
)
_COUNTS: tuple[Column, ...] = (("429", "refused", _whole), ("failed", "failed", _whole))
_CLIENT: Column = ("client's cores", "client_cpu", _short)
_OFFERED: tuple[Column, ...] = (("asked texts/s", "offered", _whole), ("answered", "answered", _whole))

COLUMNS: dict[str, tuple[Column, ...]] = {
    "target": (
        ("error", "error", _error),
        ("saturated texts/s", "saturated", _whole),
        ("sustained texts/s", "sustained", _whole),
        *_TIMES,
        _CLIENT,
        ("MiB", "memory", _mebibytes),
    ),
    "overhead": (
        ("texts/s", "texts_per_second", _whole),
        ("tokens/s", "tokens_per_second", _whole),
        ("texts a batch", "batch_texts", _whole),
        ("batch ms", "batch_ms", _short),
        ("CPU ms a text", "cpu_ms_per_text", _short),
        ("not answered", "failed", _whole),
        _CLIENT,
    ),
    "flood": (*_OFFERED, *_TIMES, *_COUNTS, ("flood's 429", "flood_refused", _whole), _CLIENT),
    "overload": (
        *_OFFERED,
        ("429s", "refused_share", _share),
        *_TIMES,
        ("failed", "failed", _whole),
        ("MiB before", "memory_before", _mebibytes),
        ("most", "memory_most", _mebibytes),
        ("after", "memory_after", _mebibytes),
        _CLIENT,
    ),
    "soak": (
        *_OFFERED,
        ("compared", "checked", _whole),
        ("wrong", "wrong_count", _whole),
        *_COUNTS,
        *_TIMES,
        ("MiB first", "memory_first", _mebibytes),
        ("last", "memory_last", _mebibytes),
        ("MiB/min", "memory_per_minute", _slope),
    ),
}
"""The columns of each kind of workload, the first word of its key."""

_NOTES = {
    "times_p95": "p95 of the others with the flood: {:.2f} × that without",
    "possible": "possible, in a closed loop: {:.0f} texts/s",
    "mean_tokens": "tokens of a text: {:.1f} in the mean",
}


def table(result: Mapping[str, Any]) -> str:
    """Return one workload's results: its table, those at fixed rates, and what is said below it."""
    variants = result["variants"]
    columns = COLUMNS[result["kind"]]
    parts = [_rows(variants, columns)]
    if rates := _at_rates(variants):
        parts.append(rates)
    notes = [text.format(result[key]) for key, text in _NOTES.items() if key in result]
    notes += [
        f"lost against in process, {size} a request: {100 * own['all']:.1f} %, "
        f"of the processors that the client leaves {100 * own['without_client']:.1f} %"
        for size, own in result.get("overheads", {}).items()
    ]
    parts.append("\n".join(f"- {note}" for note in [*notes, *_factors(variants)]))
    return "\n\n".join(parts)


def _rows(variants: Mapping[str, Mapping[str, Any]], columns: tuple[Column, ...]) -> str:
    rows = []
    for name, own in variants.items():
        told = f"{name}: {own['status']}, {own['reason']}" if "reason" in own else name
        rows.append([told, *(_written(own.get(key), write) for _, key, write in columns)])
    return markdown(["", *(heading for heading, _, _ in columns)], rows)


def _written(value: Any, write: Callable[[Any], str]) -> str:
    return "–" if value is None else write(value)


def _at_rates(variants: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [f"{name} at {rate} texts/s", *(_written(own[key], write) for _, key, write in (*_TIMES, *_COUNTS))]
        for name, record in variants.items()
        for rate, own in record.get("rates", {}).items()
    ]
    return markdown(["", *(heading for heading, _, _ in (*_TIMES, *_COUNTS))], rows) if rows else ""


def _factors(variants: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return how many times what each peer sustains is sustained by each of ours."""
    sustained = {name: own["sustained"] for name, own in variants.items() if own.get("sustained")}
    ours = [name for name in sustained if name.startswith("ours")]
    return [
        f"{name} sustains {sustained[name] / own:.2f} × what {peer!r} does"
        for name in ours
        for peer, own in sustained.items()
        if peer not in ours
    ]
