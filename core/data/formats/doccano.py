"""Records of doccano's exports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onetrunk.core.data.formats.base import Source
from onetrunk.core.tasks import JSONObject, Record

_ANNOTATIONS = ("label", "labels", "entities", "annotations")


def doccano_records(source: Source, where: str, value: JSONObject) -> Iterator[Record]:
    """Yield {"text", "entities"} or {"text", "label"}, with the other keys, for a record of doccano.

    Spans are [start, end, type] or {"start_offset", "end_offset", "label"}; labels of texts are a list of strings,
    also under `cats`. An empty list means no entities, and no label. Relations are left out, with a note.
    Raises ValueError for a record without a text or without a readable annotation.
    """
    record = dict(value)
    text = record.pop("text", None) or record.pop("data", None)
    if not isinstance(text, str):
        raise ValueError(
            f"expected a string under 'text' or 'data', as doccano writes it; found {', '.join(value)}"
        )
    if record.pop("relations", None):
        source.tally.add("relations-ignored", "records with relations, which are ignored", where)
    found: list[tuple[str, Any]] = [(key, record.pop(key)) for key in _ANNOTATIONS if key in record]
    read: dict[str, Any] = {}
    for key, annotation in [*found, ("cats", record.pop("cats", None))]:
        read.update({each: part for each, part in _annotation(key, annotation).items() if each not in read})
    yield {**record, "text": text, **read}


def _annotation(key: str, value: Any) -> dict[str, Any]:
    """Return the entities, the label, or, for an empty list, both as empty."""
    if value is None:
        return {}
    if isinstance(value, str | int):
        return {"label": value}
    if not isinstance(value, list):
        raise ValueError(f"expected a list under {key!r}, as doccano writes it; found {str(value)[:80]}")
    if not value:
        return {"entities": []} if key == "entities" else {"entities": [], "label": []}
    return {"label": value} if all(isinstance(each, str) for each in value) else {"entities": value}
