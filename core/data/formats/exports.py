"""Exports of annotation tools in JSON: which tool wrote a file, and its records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from onetrunk.adapters.format.strict_json import JSON
from onetrunk.core.data.formats.argilla import FLAT_RESPONSES, argilla_records
from onetrunk.core.data.formats.base import Reader, Source
from onetrunk.core.data.formats.doccano import doccano_records
from onetrunk.core.data.formats.jsonl import NumberedValue, json_values, only_objects
from onetrunk.core.data.formats.label_studio import label_studio_records
from onetrunk.core.data.formats.prodigy import prodigy_records
from onetrunk.core.data.formats.spacy import spacy_records
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import Record

EXPORTS: dict[str, Callable[[Source, str, Any], Iterator[Record]]] = {
    "argilla": argilla_records,
    "doccano": doccano_records,
    "label-studio": label_studio_records,
    "prodigy": prodigy_records,
    "spacy": spacy_records,
}
"""The records of one value of JSON by tool. Each raises ValueError for a value that it cannot read."""

_UNDECIDED = 1000
"""The largest number of values that are looked at to find the tool."""
_LISTS = ("label", "labels", "entities")


def export_reader(name: str) -> Reader:
    """Return the reader of JSON and JSONL that the tool `name` wrote."""
    return lambda source: records_of(source, name, json_values(source))


def detected(source: Source, values: Iterator[NumberedValue]) -> Iterator[tuple[int, Record]]:
    """Yield the records of the tool that wrote `values`, with a note, or `values` if they are records already."""
    seen: list[NumberedValue] = []
    name: str | None = None
    for number, value in values:
        seen.append((number, value))
        name = detect(value)
        if name is not None or len(seen) == _UNDECIDED:
            break
    values = chain(seen, values)
    if not name:
        return only_objects(source, values)
    message = f"read as an export of {name}, by its keys; --format names another format"
    source.note("format", message, where=source.place(seen[-1][0]))
    return records_of(source, name, values)


def records_of(source: Source, name: str, values: Iterator[NumberedValue]) -> Iterator[tuple[int, Record]]:
    """Yield the records of the tool `name`. Raises DataError, with the place, for a value that it cannot read."""
    pairs = values if name == "spacy" else only_objects(source, values)
    for number, value in pairs:
        where = source.place(number)
        try:
            for record in EXPORTS[name](source, where, value):
                yield number, record
        except ValueError as fault:
            raise DataError(where, f"{fault} (read as an export of {name})") from fault


def detect(value: JSON) -> str | None:
    """Return the tool that wrote `value`, "" for a record as tasks read it, None if it could be both."""
    if isinstance(value, list):
        return "spacy" if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], dict) else ""
    if not isinstance(value, dict):
        return ""
    for name, matches in _SIGNS.items():
        if matches(value):
            return name
    undecided = any(value.get(key) == [] for key in _LISTS) and set(value) <= {
        *_LISTS,
        "id",
        "text",
        "data",
        "meta",
    }
    return None if undecided else ""


def _is_label_studio(value: dict[str, Any]) -> bool:
    if isinstance(value.get("data"), dict):
        return any(isinstance(value.get(key), list) for key in ("annotations", "completions"))
    regions = any(_has_keys(each, {"start", "end", "labels"}) for each in value.values())
    return regions or ("annotation_id" in value and not {"lead_time", "annotator"}.isdisjoint(value))


def _is_prodigy(value: dict[str, Any]) -> bool:
    if not isinstance(value.get("text"), str):
        return False
    choice = isinstance(value.get("accept"), list) and isinstance(value.get("options"), list)
    spans = _has_keys(value.get("spans"), {"start", "end", "label"})
    own = not {"tokens", "_input_hash"}.isdisjoint(value)
    return choice or (spans and own) or value.get("answer") in ("accept", "reject", "ignore")


def _is_argilla(value: dict[str, Any]) -> bool:
    if isinstance(value.get("fields"), dict):
        return "responses" in value or "suggestions" in value
    if any(key.endswith(FLAT_RESPONSES) for key in value):
        return True
    return "annotation" in value and ("prediction" in value or "annotation_agent" in value)


def _is_doccano(value: dict[str, Any]) -> bool:
    if not isinstance(value.get("text", value.get("data")), str):
        return False
    lists = [value[key] for key in (*_LISTS, "annotations") if isinstance(value.get(key), list)]
    if "text" not in value and any(each and isinstance(each[0], str) for each in lists):
        return True
    offsets = any(_has_keys(each, {"start_offset", "end_offset"}) for each in lists)
    return offsets or any(_is_triple(each[0]) for each in lists if each)


def _is_spacy(value: dict[str, Any]) -> bool:
    return isinstance(value.get("paragraphs"), list) or (
        isinstance(value.get("text"), str) and isinstance(value.get("cats"), dict)
    )


_SIGNS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "label-studio": _is_label_studio,
    "prodigy": _is_prodigy,
    "argilla": _is_argilla,
    "spacy": _is_spacy,
    "doccano": _is_doccano,
}
"""Whether an object has the keys of a tool; the first one that fits counts."""


def _has_keys(value: Any, keys: set[str]) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and keys <= set(value[0])


def _is_triple(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and type(value[0]) is int and type(value[1]) is int
