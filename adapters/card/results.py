"""The figures of a card: by split, by class, and who is taken for whom."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from onetrunk.adapters.card.markup import cell, is_number, number, plain, table
from onetrunk.adapters.format.manifest import SPLITS, Manifest
from onetrunk.adapters.format.strict_json import JSONObject

CALIBRATED_ON_DEV = "The rows of dev also calibrated the decoder: figures on dev that depend on it flatter."
"""What is said beside the results of an adapter whose decoder has settings."""

MOST_ROWS = 40
"""How many rows a table of classes has, at most."""
MOST_LABELS = 20
"""How many labels a confusion matrix has, at most."""

_FIRST = ("accuracy", "precision", "recall", "f1", "macro_f1", "support")
_SCORE = "f1"


def results(manifest: Manifest) -> str:
    """Return the results as Markdown: figures by split, then the tables of test, or of dev where test has none."""
    parts = [_by_split(manifest)]
    if manifest.settings and "dev" in manifest.metrics:
        parts.append(CALIBRATED_ON_DEV)
    for name, split in _named(manifest):
        parts += _tables(name, split, manifest.metrics[split][name], manifest.labels)
    return "\n\n".join(parts)


def in_order(names: Iterable[str], first: Collection[str]) -> list[str]:
    """Return the names once each: those of `first` in their order, then the others by the alphabet.

    The order within a JSON object is lost on the disk, and no card may depend on it.
    """
    seen = set(names)
    return [name for name in first if name in seen] + sorted(seen.difference(first))


def _by_split(manifest: Manifest) -> str:
    splits = in_order(manifest.metrics, SPLITS)
    figures = [
        {key: value for key, value in manifest.metrics[split].items() if is_number(value)} for split in splits
    ]
    if not any(figures):
        return "There are no figures."
    keys = in_order((key for own in figures for key in own), _FIRST)
    return table(["", *splits], ([plain(key), *(number(own.get(key)) for own in figures)] for key in keys))


def _named(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield the name of each metric that is no number, with the split to show: test where it has it, else dev."""
    splits = in_order(manifest.metrics, SPLITS)
    for name in sorted({name for split in splits for name in manifest.metrics[split]}):
        found = [split for split in splits if isinstance(manifest.metrics[split].get(name), dict)]
        if found:
            yield name, found[-1]


def _tables(name: str, split: str, value: JSONObject, labels: Sequence[str]) -> Iterator[str]:
    heading = f"### {plain(name.replace('_', ' ').capitalize())} on {split}"
    if _is_confusion(value):
        yield heading
        yield _confusion(value["labels"], value["rows"])
    elif _is_table(value):
        yield heading
        yield from _by_class(value, labels)


def _is_table(value: JSONObject) -> bool:
    """Tell whether this is a table: objects of numbers, some of which may be None, under names."""
    return bool(value) and all(
        isinstance(row, dict) and row and all(each is None or is_number(each) for each in row.values())
        for row in value.values()
    )


def _by_class(value: Mapping[str, JSONObject], labels: Sequence[str]) -> Iterator[str]:
    columns = in_order((key for row in value.values() for key in row), _FIRST)
    names = in_order(value, labels)
    shown = _picked(names, value, _SCORE if _SCORE in columns else None)
    yield table(
        ["", *map(plain, columns)],
        ([cell(name), *(number(value[name].get(key)) for key in columns)] for name in shown),
    )
    if len(shown) < len(names):
        which = (
            f"The {len(shown)} with the lowest {_SCORE}" if _SCORE in columns else f"The first {len(shown)}"
        )
        yield f"{which} of {len(names):,}; `task.json` has the rest."


def _picked(names: list[str], value: Mapping[str, JSONObject], score: str | None) -> list[str]:
    """Return `MOST_ROWS` of the names: where there is a score, those that are worst, in the order of the score."""
    if len(names) <= MOST_ROWS or score is None:
        return names[:MOST_ROWS]
    scores = {name: value[name].get(score) for name in names}
    return sorted(names, key=lambda name: (scores[name] is None, scores[name] or 0.0))[:MOST_ROWS]


def _is_confusion(value: JSONObject) -> bool:
    labels, rows = value.get("labels"), value.get("rows")
    return (
        isinstance(labels, list)
        and bool(labels)
        and all(isinstance(label, str) for label in labels)
        and _is_square(rows, len(labels))
    )


def _is_square(rows: Any, side: int) -> bool:
    return (
        isinstance(rows, list)
        and len(rows) == side
        and all(isinstance(row, list) and len(row) == side and all(map(is_number, row)) for row in rows)
    )


def _confusion(labels: Sequence[str], rows: Sequence[Sequence[float]]) -> str:
    if len(labels) > MOST_LABELS:
        return f"{len(labels):,} labels are too many to be shown here; `task.json` has the matrix."
    names = [cell(label) for label in labels]
    body = ([name, *map(number, row)] for name, row in zip(names, rows, strict=True))
    return "Rows are what is right, columns what was answered.\n\n" + table(["", *names], body)
