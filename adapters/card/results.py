"""The results in a card: metrics by split, metrics by class, and confusion matrices."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from onetrunk.adapters.card.markup import cell, is_number, number, plain, table
from onetrunk.adapters.format.manifest import SPLITS, Manifest
from onetrunk.adapters.format.strict_json import JSONObject

CALIBRATED_ON_DEV = "The decoder was calibrated on dev, so dev metrics that depend on it are optimistic."
"""The note for an adapter whose decoder has settings, which are calibrated on the dev split."""

MOST_ROWS = 40
"""The most rows of a table of classes."""
MOST_LABELS = 20
"""Confusion matrices with more labels are not shown."""

_FIRST = ("accuracy", "precision", "recall", "f1", "macro_f1", "support")
_SCORE = "f1"


def results(manifest: Manifest) -> str:
    """Return the results as Markdown: a table of metrics by split, then tables of single metrics."""
    splits = in_order(manifest.metrics, SPLITS)
    parts = [_by_split([manifest.metrics[split] for split in splits], splits)]
    if manifest.settings and "dev" in manifest.metrics:
        parts.append(CALIBRATED_ON_DEV)
    for name in sorted({name for split in splits for name in manifest.metrics[split]}):
        found = [split for split in splits if isinstance(manifest.metrics[split].get(name), dict)]
        if found:  # of dev and test, test is the last
            parts += _tables(name, found[-1], manifest.metrics[found[-1]][name], manifest.labels)
    return "\n\n".join(parts)


def in_order(names: Iterable[str], first: Collection[str]) -> list[str]:
    """Return the distinct names: those of `first` in its order, then the others in alphabetical order.

    A card must not depend on the order of keys in JSON objects, which are stored with sorted keys.
    """
    seen = set(names)
    return [name for name in first if name in seen] + sorted(seen.difference(first))


def _by_split(metrics: Sequence[JSONObject], splits: Sequence[str]) -> str:
    numbers = [{key: value for key, value in own.items() if is_number(value)} for own in metrics]
    if not any(numbers):
        return "No metrics."
    keys = in_order((key for own in numbers for key in own), _FIRST)
    return table(["", *splits], ([plain(key), *(number(own.get(key)) for own in numbers)] for key in keys))


def _tables(name: str, split: str, value: JSONObject, labels: Sequence[str]) -> Iterator[str]:
    heading = f"### {plain(name.replace('_', ' ').capitalize())} on {split}"
    if _is_confusion(value):
        yield heading
        yield _confusion(value["labels"], value["rows"])
    elif _is_table(value):
        yield heading
        yield from _by_class(value, labels)


def _is_table(value: JSONObject) -> bool:
    """Tell whether `value` has a row for each of its keys: an object of numbers or None."""
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
        which = f"with the lowest {_SCORE}" if _SCORE in columns else "that come first"
        yield f"These are the {len(shown)} classes {which}. `task.json` has all {len(names):,}."


def _picked(names: list[str], value: Mapping[str, JSONObject], score: str | None) -> list[str]:
    """Return at most `MOST_ROWS` names: if there are more, those with the lowest scores, or the first ones."""
    if len(names) <= MOST_ROWS or score is None:
        return names[:MOST_ROWS]
    scores = {name: value[name].get(score) for name in names}
    return sorted(names, key=lambda name: (scores[name] is None, scores[name] or 0.0))[:MOST_ROWS]


def _is_confusion(value: JSONObject) -> bool:
    """Tell whether `value` has a list of labels, and a square of numbers as rows."""
    labels, rows = value.get("labels"), value.get("rows")
    if not isinstance(labels, list) or not isinstance(rows, list) or not labels or len(rows) != len(labels):
        return False
    are_rows = all(
        isinstance(row, list) and len(row) == len(rows) and all(map(is_number, row)) for row in rows
    )
    return are_rows and all(isinstance(label, str) for label in labels)


def _confusion(labels: Sequence[str], rows: Sequence[Sequence[float]]) -> str:
    if len(labels) > MOST_LABELS:
        return f"The matrix of {len(labels):,} labels is in `task.json`."
    names = [cell(label) for label in labels]
    body = ([name, *map(number, row)] for name, row in zip(names, rows, strict=True))
    return "Rows: true labels. Columns: predicted labels.\n\n" + table(["", *names], body)
