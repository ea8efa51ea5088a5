"""What is said about the records of a file, whatever its format: their keys, texts and labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from onetrunk.core.data.columns import ColumnNames
from onetrunk.core.data.formats.tag_schemes import FileTags
from onetrunk.core.data.lines import DataSource, source_name
from onetrunk.core.data.notes import Note, NoteTally
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.data.readers import SourceRecord
from onetrunk.core.data.table_cells import with_lists
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import Example, Level, Record

MAX_LABELS = 100_000
"""The largest number of different labels."""

_TAGS = ("tags", "ner_tags")
_NO_LABEL = "-1"  # as GLUE and `datasets` write it, for the rows of a test set without labels
_ODD = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffd]|[ÂÃ][\x80-\xbf]|â€|&(?:[a-zA-Z]{2,8}|#[0-9]{1,6});|\\\\[nrt]"
)
_NULLS = frozenset({"NA", "N/A", "n/a", "<NA>", "#N/A", "nan", "NaN", "null", "NULL", "None"})
"""Labels that programs write where there is none."""
_MANY = 0.05
"""The share of texts from which on escapes are noted: they may well be meant in a few."""
_CONTROL = "texts have control characters, U+FFFD or pairs such as Ã¼, which look like errors of encoding"
_ESCAPED = "texts have HTML entities such as &amp;, or \\n as two characters, which are read as they are"


@dataclass(slots=True)
class TextChecks:
    """Finds texts that look as if they had been converted wrongly."""

    _texts: int = 0
    _control: NoteTally = field(default_factory=NoteTally)
    _escaped: NoteTally = field(default_factory=NoteTally)

    def observe(self, text: str, where: str) -> None:
        """Look at one text, which is at `where`."""
        self._texts += 1
        found = _ODD.search(text)
        if not found:
            return
        if found[0][0] not in "&\\":
            self._control.add("control-characters", _CONTROL, where)
        else:
            self._escaped.add("escaped-characters", _ESCAPED, where)

    def notes(self, source: str) -> list[Note]:
        """Return the notes on `source`."""
        escaped = self._escaped.notes(source)
        many = [note for note in escaped if note.count >= _MANY * self._texts]
        return self._control.notes(source) + many


@dataclass(slots=True)
class RecordChecks:
    """Prepares the records of one file for its task, and collects what is to be said about them.

    path: of the file, or Python objects.  options: how it is read.  level: of the task.
    """

    path: DataSource
    options: ReadOptions
    level: Level
    _columns: ColumnNames = field(init=False)
    _texts: TextChecks = field(default_factory=TextChecks)
    _tally: NoteTally = field(default_factory=NoteTally)
    _labels: set[str] = field(default_factory=set)
    _labelled: int = 0
    _tags: FileTags = field(default_factory=FileTags)
    _minus_one: tuple[int, str] = (0, "")
    _table: bool = False

    def __post_init__(self) -> None:
        self._columns = ColumnNames(self.options, self.level)

    def prepare(self, source: SourceRecord) -> SourceRecord:
        """Return the record with the keys that tasks read; an empty cell is a missing label.

        Raises ValueError for a record without the key that an option names.
        """
        self._table = bool(source.columns)
        if source.exported:
            return source
        own = source.record
        if self.level == "token" and source.columns:
            own = with_lists(own, self.options.label_column)
        record = self._columns.apply(own, source.where)
        names = self._columns.names_of_labels(source.record, source.class_names, self.path)
        label = record.get("label")
        if self.level == "text" and isinstance(label, str) and label != label.strip():
            self._tally.add(
                "label-white-space", "labels have white space around them, which is removed", source.where
            )
        if source.columns and isinstance(label, str) and not label.strip():
            record = {key: value for key, value in record.items() if key != "label"}
        if self.level == "text" and isinstance(label, str) and label.strip() in _NULLS:
            shown = f"rows have the label {label.strip()!r}"
            self._tally.add(
                "null-labels",
                f"{shown}, which is read as a label; if it means none, remove them",
                source.where,
            )
        return replace(source, record=record, class_names=names)

    def with_prefixes(self, record: Record, where: str) -> Record | None:
        """Return a record with prefixes and types for its tags; None if it has no tags, or needs none."""
        for key in _TAGS if self.level == "token" else ():
            tags = record.get(key)
            if isinstance(tags, list | tuple) and all(isinstance(tag, str) for tag in tags):
                changed = self._tags.prefixed(tags, where)
                return None if changed is tags else {**record, key: changed}
        return None

    def observe(self, example: Example) -> None:
        """Check the text and the target of an example. Raises DataError for one label too many."""
        self._texts.observe(example.text, example.where)
        target = example.target
        labels = (target,) if isinstance(target, str) else target
        if not isinstance(labels, Sequence | set | frozenset):
            return
        for label in labels:
            if isinstance(label, str) and label not in self._labels:
                self._check_label(label, example.where)
        if isinstance(target, str):
            self._labelled += 1
            if target == _NO_LABEL:
                count, first = self._minus_one
                self._minus_one = count + 1, first or example.where

    def hint(self, fault: str) -> str:
        """Return what to do about `fault`, the message of a task; "" if nothing is known."""
        return self._columns.hint(fault, table=self._table)

    def notes(self) -> list[Note]:
        """Return the notes on the file. Raises DataError if the label of all rows is -1."""
        name = source_name(self.path)
        notes = [
            *self._columns.notes(name),
            *self._tally.notes(name),
            *self._tags.notes(name),
            *self._texts.notes(name),
        ]
        count, first = self._minus_one
        if count and count == self._labelled:
            raise DataError(
                name,
                "has no labels: all are -1, as in test sets with secret labels; give a file with labels",
            )
        if count:
            message = (
                f"rows have the label -1, which is read as a label; where it means none, remove them: {count}"
            )
            notes.append(Note("minus-one-labels", message, name, count, first))
        return notes

    def _check_label(self, label: str, where: str) -> None:
        self._labels.add(label)
        if len(self._labels) > MAX_LABELS:
            limit = f"at most {MAX_LABELS:,} different ones are allowed"
            raise DataError(where, f"too many labels: {limit}; is the text in the column of the label?")
