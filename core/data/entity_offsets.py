"""Entities of records as files give them: the unit of their offsets, their own texts, repetition and nesting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onetrunk.core.data.notes import Note, NoteTally
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.tasks import JSONObject
from onetrunk.core.tasks.entities import Entity, entity_list, parse_entity, refuse_overlap, span_fault


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
        own = utf16_index(text) if self.options.offsets == "utf16" else None
        other = utf16_index(text) if self.options.offsets == "characters" else None
        parsed = [(parse_entity(record), _own_text(record)) for record in entity_list(records)]
        first_fault, found = None, []
        for entity, written in parsed:
            here, there = _in_characters(entity, own), _in_characters(entity, other)
            fault = _fault(text, entity, here, written)
            self.other_fits = self.other_fits and _fault(text, entity, there, written) is None
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
        cut = (
            f"{len(self.doubtful)} entities after an emoji begin or end inside a word if offsets count {read}"
        )
        message = f"{cut}, and none does in the other unit; if the spans are shifted, {remedy}"
        return [Note("offsets-unit", message, source, len(self.doubtful), self.doubtful[0])]

    def _compare_edges(self, text: str, here: Entity | None, there: Entity | None, where: str) -> None:
        if here is None or there is None or here == there:
            return
        if _cuts_word(text, there):
            self.cut_in_other = True
        elif _cuts_word(text, here):
            self.doubtful.append(where)

    def _flat(self, entities: Sequence[Entity], where: str) -> list[Entity]:
        once = sorted(dict.fromkeys(entities))
        if len(once) < len(entities):
            repeated = len(entities) - len(once)
            self.tally.add("same-entity-twice", "entities given twice count once", where, repeated)
        if self.options.nested == "refuse":
            refuse_overlap(once)
            return once
        kept: list[Entity] = []
        for entity in sorted(once, key=lambda each: each[0] - each[1]):
            if all(entity[1] <= each[0] or entity[0] >= each[1] for each in kept):
                kept.append(entity)
        if len(kept) < len(once):
            message = "entities that overlap a longer one, or an equally long one before, are left out"
            self.tally.add("nested-entities", message, where, len(once) - len(kept))
        return sorted(kept)


def utf16_index(text: str) -> Mapping[int, int] | None:
    """Return the index of each character by its offset in UTF-16 code units; None if both are equal."""
    if text.isascii() or max(text) <= "\uffff":
        return None
    index, offset = {}, 0
    for position, character in enumerate(text):
        index[offset] = position
        offset += 1 if character <= "\uffff" else 2
    index[offset] = len(text)
    return index


def _in_characters(entity: Entity, index: Mapping[int, int] | None) -> Entity | None:
    """Return `entity` with offsets in characters; None if one is outside the text or inside a character."""
    start, end, label = entity
    if index is None:
        return entity
    return (index[start], index[end], label) if start in index and end in index else None


def _own_text(record: Any) -> str | None:
    written = record.get("text") if isinstance(record, Mapping) else None
    return written if isinstance(written, str) else None


def _fault(text: str, given: Entity, entity: Entity | None, written: str | None) -> str | None:
    if entity is None:
        start, end, label = given
        return f"entity {label} {start}:{end} is outside the text, or begins or ends inside a character"
    if fault := span_fault(text, entity):
        return fault
    start, end, label = entity
    if written is not None and written != text[start:end]:
        return (
            f"entity {label} {given[0]}:{given[1]} is {text[start:end][:40]!r} in the text, but its own text is "
            f"{written[:40]!r}; correct its offsets or its text"
        )
    return None


def _cuts_word(text: str, entity: Entity) -> bool:
    start, end, _ = entity
    inside = text[start:end]
    before, after = text[start - 1 : start], text[end : end + 1]
    joined = (before + inside[:1]).isalnum() and bool(before), (inside[-1:] + after).isalnum() and bool(after)
    return any(joined) or inside != inside.strip()
