"""Brings the records of a file into the form that tasks read; all formats pass through here."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onetrunk.core.data.entity_offsets import EntityReader
from onetrunk.core.data.label_names import names_beside
from onetrunk.core.data.lines import DataSource
from onetrunk.core.data.notes import Note, NoteTally
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.tasks import Example, Labels, Level, Record, label_name

_TAGS = ("tags", "ner_tags")
_WORDS = ("words", "tokens")
_LABELS = ("label", "labels")
_NO_LABEL = -1  # as `datasets` writes it, for the rows of a test set without labels
_MOST_SPELLINGS = 5
_MOST_LABELS = 5
"""The most labels with a note each; others are only counted."""


@dataclass(slots=True)
class Normalizer:
    """Normalizes the records of one file, and collects what is to be said about them.

    path, options: of the file.
    level: of the task; entities and tags are normalized for tasks on tokens, labels for tasks on texts.
    """

    path: DataSource
    options: ReadOptions
    level: Level
    _tally: NoteTally = field(default_factory=NoteTally)
    _spellings: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    _entities: EntityReader = field(init=False)
    _beside: Mapping[str, Labels] | None = None

    def __post_init__(self) -> None:
        self._entities = EntityReader(self.options, self._tally)

    def normalize(self, record: Record, where: str, class_names: Mapping[str, Labels]) -> Record:
        """Return `record` in the form that tasks read.

        Integers become the names of their labels; entities {"start", "end", "label"} with offsets in characters.
        class_names: the names by column that the file itself gives.
        Without names, integers stay as they are. Raises ValueError for a number without a name, invalid entities.
        """
        if self.level == "token":
            self._note_targets(record, where)
        changed: dict[str, Any] = {}
        for key in _TAGS if self.level == "token" else _LABELS:
            value = record.get(key)
            if value is not None and (named := self._named(key, value, class_names)) is not value:
                changed[key] = named
        if (
            self.level == "token"
            and record.get("entities") is not None
            and isinstance(record.get("text"), str)
        ):
            changed["entities"] = self._entities.read(record["text"], record["entities"], where)
            if all(record.get(key) is None for key in _TAGS):
                changed.update({key: None for key in _WORDS if key in record})  # the entities are the target
        return {**record, **changed} if changed else record

    def observe(self, record: Record, example: Example) -> None:
        """Remember how `record`, which was read as `example`, spells its label."""
        value = next((record[key] for key in _LABELS if record.get(key) is not None), None)
        alone = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
        if self.level != "text" or not isinstance(alone, str | int | float):
            return
        if label_name(alone) == example.target:
            shown = json.dumps(alone.strip() if isinstance(alone, str) else alone, ensure_ascii=False)
            self._spellings[example.target].setdefault(shown, example.where)

    def hint(self) -> str | None:
        """Return a remedy for the faults of the whole file, if one is known."""
        return self._entities.hint()

    def notes(self, source: str) -> list[Note]:
        """Return what is to be said about the records of `source`."""
        notes = self._tally.notes(source) + self._entities.notes(source)
        found = []
        for label, places in self._spellings.items():
            if len(places) > 1 or not {label, json.dumps(label, ensure_ascii=False)} >= set(places):
                shown = ", ".join(list(places)[:_MOST_SPELLINGS])
                message = f"the label {label} is spelled {shown}, which is one label"
                found.append(
                    Note("label-spellings", message, source, len(places), next(iter(places.values())))
                )
        if len(found) > _MOST_LABELS:
            count = len(found) - _MOST_LABELS
            message = f"{count} more labels have other spellings"
            found[_MOST_LABELS:] = [
                Note("label-spellings", message, source, count, found[_MOST_LABELS].where)
            ]
        return notes + found

    def _note_targets(self, record: Record, where: str) -> None:
        """Note a record with several targets, of which only the first one is read."""
        given = [key for key in (*_TAGS, "entities") if record.get(key) is not None]
        if len(given) > 1 and any(record[key] != record[given[0]] for key in given):
            others = " and ".join(map(repr, given[1:]))
            message = f"rows have {given[0]!r}, which is read, and {others}; --label-column names another one"
            self._tally.add("several-targets", message, where)

    def _named(self, key: str, value: Any, class_names: Mapping[str, Labels]) -> Any:
        """Return `value` with the names of its integers."""
        values = value if isinstance(value, list | tuple) else [value]
        if not any(_is_number(each, key) for each in values):
            return value
        names = self.options.labels or class_names.get(key) or self._names_beside().get(key, ())
        if not names:
            return value
        found = [_name(each, names, key) for each in values]
        return found if values is value else found[0]

    def _names_beside(self) -> Mapping[str, Labels]:
        if self._beside is None:
            self._beside = names_beside(self.path)
        return self._beside


def _is_number(value: object, key: str) -> bool:
    if isinstance(value, str):  # the cells of CSV
        return value.strip().isdecimal()
    if isinstance(value, float):  # pandas makes integers floats if one is missing
        return key in _LABELS and value.is_integer()
    return type(value) is int


def _name(value: Any, names: Labels, key: str) -> Any:
    if value in names or not _is_number(value, key):
        return value
    number = int(value)
    if number == _NO_LABEL and key in _LABELS:
        return None
    if not 0 <= number < len(names):
        raise ValueError(f"{key!r} has {number}, but there are {len(names)} names, for 0 to {len(names) - 1}")
    return names[number]
