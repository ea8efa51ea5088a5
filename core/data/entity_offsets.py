"""Entities of records as files give them: the unit of their offsets, their own texts, repetition and nesting."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onetrunk.core.data.notes import Note, NoteTally
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.tasks import JSONObject
from onetrunk.core.tasks.entities import (
    Entity,
    bytes_hint,
    cuts_word,
    entity_list,
    parse_entity,
    refuse_overlap,
    span_fault,
)


@dataclass(slots=True)
class EntityReader:
    """Brings the entities of all records of a file into one form, and compares both units of offsets.

    options: `offsets` and `nested`.
    tally: of entities that are left out.
    faulty: whether an entity was refused for its span.
    other_fits: whether each entity so far is one of its text in the other unit.
    doubtful: count and first place of entities that cut words, and would not in the other unit.
    cut_in_other: whether an entity that follows an emoji cuts a word in the other unit.
    """

    options: ReadOptions
    tally: NoteTally
    faulty: bool = False
    other_fits: bool = True
    doubtful: list[str] = field(default_factory=list)
    cut_in_other: bool = False

    def read(self, text: str, records: object, where: str) -> list[JSONObject]:
        """Return the entities in order, as {"start", "end", "label"} with offsets in characters.

        An entity that is given twice counts once. Raises ValueError for an invalid entity, one whose own text
        differs, and for entities that overlap, unless `nested` is `longest`.
        """
        wide = _wide_characters(text)
        as_utf16 = self.options.offsets == "utf16"
        parsed = [(parse_entity(record), _own_text(record)) for record in entity_list(records)]
        first_fault, found = None, []
        for entity, written in parsed:
            other = _from_utf16(entity, wide) if wide else entity
            here, there = (other, entity) if as_utf16 else (entity, other)
            fault = _fault(text, entity, here, written)
            other_fault = fault if here == there else _fault(text, entity, there, written)
            self.other_fits = self.other_fits and other_fault is None
            self._compare_edges(text, here, there, where)
            first_fault = first_fault or fault
            found.append(here or entity)
        if first_fault:
            self.faulty = True
            raise ValueError(first_fault)
        return [
            {"start": start, "end": end, "label": label} for start, end, label in self._flat(found, where)
        ]

    def hint(self) -> str | None:
        """Return, for the message on faulty rows, that the other unit fits all entities; None if it does not."""
        if not (self.faulty and self.other_fits):
            return None
        if self.options.offsets == "utf16":
            return "all entities of the file fit if their offsets count characters: leave out --offsets utf16"
        return "all entities of the file fit if their offsets count UTF-16 code units: give --offsets utf16"

    def notes(self, source: str) -> list[Note]:
        """Return a note if the entities cut words that the other unit would not cut."""
        if not self.doubtful or self.cut_in_other or not self.other_fits:
            return []
        read, remedy = ("characters", "give --offsets utf16")
        if self.options.offsets == "utf16":
            read, remedy = "UTF-16 code units", "leave out --offsets utf16"
        cut = "entities after an emoji that begin or end inside a word"
        message = (
            f"{cut}, as offsets count {read}: {len(self.doubtful)}; none does in the other unit; "
            f"if the spans are shifted, {remedy}"
        )
        return [Note("offsets-unit", message, source, len(self.doubtful), self.doubtful[0])]

    def _compare_edges(self, text: str, here: Entity | None, there: Entity | None, where: str) -> None:
        if here is None or there is None or here == there:
            return
        if cuts_word(text, *there[:2]):
            self.cut_in_other = True
        elif cuts_word(text, *here[:2]):
            self.doubtful.append(where)

    def _flat(self, entities: Sequence[Entity], where: str) -> list[Entity]:
        once = sorted(dict.fromkeys(entities), key=lambda each: each[:2])
        if len(once) < len(entities):
            repeated = len(entities) - len(once)
            self.tally.add("same-entity-twice", "entities given twice count once", where, repeated)
        if self.options.nested == "refuse":
            refuse_overlap(once)
            return once
        kept: list[Entity] = []  # in order
        for entity in sorted(once, key=lambda each: each[0] - each[1]):
            at = bisect_left(kept, entity)
            if all(entity[1] <= each[0] or entity[0] >= each[1] for each in kept[max(at - 1, 0) : at + 1]):
                kept.insert(at, entity)
        if len(kept) < len(once):
            message = "entities that overlap a longer one, or an equally long one before, are left out"
            self.tally.add("nested-entities", message, where, len(once) - len(kept))
        return kept


def _wide_characters(text: str) -> list[int]:
    """Return the offsets, in UTF-16 code units, of the characters that take two units."""
    if text.isascii() or max(text) <= "\uffff":
        return []
    wide = (at for at, character in enumerate(text) if character > "\uffff")
    return [at + before for before, at in enumerate(wide)]


def _from_utf16(entity: Entity, wide: Sequence[int]) -> Entity | None:
    """Return `entity` with offsets in characters; None if one is inside a character."""
    start, end, label = entity
    inside = any(
        at and wide[at - 1] + 1 == offset for offset in (start, end) for at in [bisect_left(wide, offset)]
    )
    return None if inside else (start - bisect_left(wide, start), end - bisect_left(wide, end), label)


def _own_text(record: Any) -> str | None:
    written = record.get("text") if isinstance(record, Mapping) else None
    return written if isinstance(written, str) else None


def _fault(text: str, given: Entity, entity: Entity | None, written: str | None) -> str | None:
    if entity is None:
        start, end, label = given
        return f"entity {label} {start}:{end} begins or ends inside a character; correct its offsets"
    if fault := span_fault(text, entity):
        return fault
    start, end, label = entity
    if written is not None and written != text[start:end]:
        return (
            f"entity {label} {given[0]}:{given[1]} is {text[start:end][:40]!r} in the text, but its own text is "
            f"{written[:40]!r}; correct its offsets or its text{bytes_hint(text, given, written)}"
        )
    return None
