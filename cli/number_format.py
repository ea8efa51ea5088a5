"""Format metrics, sizes and times for people, and select the metrics to show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onetrunk.adapters.format.manifest import Manifest

Metrics = dict[str, float | int | None]
"""Metrics by name. None is an undefined metric, such as the recall of a label that does not occur."""


def scalar_metrics(metrics: Mapping[str, Any]) -> Metrics:
    """Return the metrics that are numbers or undefined, without tables such as the confusion matrix."""
    return {name: value for name, value in metrics.items() if value is None or isinstance(value, int | float)}


def headline(by_split: Mapping[str, Mapping[str, Any]]) -> tuple[str, Metrics]:
    """Return the name and the metrics of the test split; if there is none, of dev; else ("", {})."""
    split = next((name for name in ("test", "dev") if name in by_split), "")
    return split, scalar_metrics(by_split.get(split, {}))


def metric_rows(by_split: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yield a table row for each metric: its name, and its value in each split."""
    columns = [scalar_metrics(metrics) for metrics in by_split.values()]
    for name in dict.fromkeys(name for column in columns for name in column):
        yield name, *(format_metric(column.get(name)) for column in columns)


def format_metric(value: float | int | None) -> str:
    """Return an int as it is, a float with four decimals, and a dash for None."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 row`, `8 rows`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def weight_bytes(manifest: Manifest) -> int:
    """Return the size of an adapter's weights on disk, in bytes."""
    return sum(record.bytes for name, record in manifest.files.items() if name.endswith(".safetensors"))


def size(count: int) -> str:
    """Return a number of bytes in decimal units, such as `4.7 MB`."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if round(value, 1) < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Return a duration in one of the forms `3.2 s`, `2 min 05 s`, `1 h 02 min`."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
