"""Entities given as spans of a text: how files spell them, and their checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

Entity = tuple[int, int, str]
"""Start and end (exclusive), in characters of a text, and the type."""

EXPECTED = "expected an entity {'start': 0, 'end': 3, 'label': 'X'}"

BYTES_TO_CHARACTERS = "len(text.encode()[:offset].decode()) in Python"

_UTF8 = "surrogatepass"  # JSON allows a lone surrogate
_STARTS = ("start", "start_offset")
_ENDS = ("end", "end_offset")
_TYPES = ("label", "type", "entity", "tag", "entity_group", "labels")


def checked_entities(text: str, records: object) -> list[Entity]:
    """Return the entities of a text in order.

    records: a list of entities, each spelled as for `parse_entity`.
    Raises ValueError for an invalid entity, and for entities that overlap.
    """
    entities = sorted(parse_entity(record) for record in entity_list(records))
    for entity in entities:
        if fault := span_fault(text, entity):
            raise ValueError(fault)
    refuse_overlap(entities)
    return entities


def entity_list(records: object) -> Sequence[Any]:
    """Return `records`. Raises ValueError unless it is a list."""
    if not isinstance(records, list | tuple):
        raise ValueError(f"expected a list under 'entities', found {str(records)[:80]}")
    return records


def parse_entity(record: object) -> Entity:
    """Return an entity as its record spells it; its span may be outside the text.

    record: [start, end, type], or a mapping with start, end and the type under `label`, `type`, `entity`, `tag`,
        `entity_group` or, in a list of one, `labels`.
    Raises ValueError for anything else, and for two types.
    """
    start, end, types = _parts(record)
    names = {name.strip() if isinstance(name, str) else name for name in types.values()}
    if len(names) > 1:
        found = " and ".join(f"{key} {name!r}" for key, name in types.items())
        raise ValueError(f"an entity has {found}; keep the key with its type")
    name = next(iter(names), None)
    if type(start) is not int or type(end) is not int or not isinstance(name, str) or not name:
        raise ValueError(f"{EXPECTED}, found {str(record)[:80]}")
    return start, end, name


def span_fault(text: str, entity: Entity) -> str | None:
    """Return why the span of `entity` is not one of `text`; None if it is."""
    start, end, label = entity
    if 0 <= start < end <= len(text) and text[start:end].strip():
        return None
    return (
        f"entity {label} {start}:{end} is empty or outside the text of {len(text)} characters; "
        f"expected offsets in characters, with an exclusive end{bytes_hint(text, entity)}"
    )


def bytes_hint(text: str, entity: Entity, written: str | None = None) -> str:
    """Return, for the end of a message, that the offsets count bytes of UTF-8; "" if they do not.

    written: the text that the entity should be; None if it is not known.
    """
    start, end, _ = entity
    if text.isascii() or not fits_as_bytes(text, start, end, written):
        return ""
    return f"; its offsets count bytes of UTF-8: convert them, with {BYTES_TO_CHARACTERS}"


def fits_as_bytes(text: str, start: int, end: int, written: str | None = None) -> bool:
    """Return whether start:end, as bytes of UTF-8, are whole words of `text`; written: the text they should be."""
    data = text.encode("utf-8", _UTF8)
    if not 0 <= start < end <= len(data):
        return False
    try:
        before, inside = (data[a:b].decode("utf-8", _UTF8) for a, b in ((0, start), (start, end)))
    except UnicodeDecodeError:
        return False
    if written is not None:
        return inside == written
    return not cuts_word(text, len(before), len(before) + len(inside))


def cuts_word(text: str, start: int, end: int) -> bool:
    """Return whether a span is outside `text`, begins or ends inside a word, or with white space."""
    inside = text[max(start, 0) : end]
    if not 0 <= start < end <= len(text) or inside != inside.strip():
        return True
    edges = (text[start - 1 : start], inside[0]), (inside[-1], text[end : end + 1])
    return any(bool(a) and bool(b) and (a + b).isalnum() for a, b in edges)


def refuse_overlap(entities: Iterable[Entity]) -> None:
    """Raise ValueError if two of the entities, in the order of their starts, overlap."""
    for (start, end, label), (next_start, next_end, next_label) in pairwise(entities):
        if next_start < end:
            raise ValueError(
                f"entities {label} {start}:{end} and {next_label} {next_start}:{next_end} overlap; "
                "expected entities without overlap, or --nested longest"
            )


def _parts(record: object) -> tuple[object, object, dict[str, Any]]:
    """Return start, end and the types by their keys; None and {} for what is missing or no scalar."""
    if isinstance(record, list | tuple) and len(record) == 3:
        return record[0], record[1], {"label": record[2] if isinstance(record[2], str) else None}
    if not isinstance(record, Mapping):
        return None, None, {}
    start, end = (next((record[key] for key in keys if key in record), None) for keys in (_STARTS, _ENDS))
    types = {key: record[key] for key in _TYPES if record.get(key) is not None}
    for key, value in types.items():
        alone = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
        types[key] = alone if isinstance(alone, str) else None
    return start, end, types
