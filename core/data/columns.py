"""Which columns, or keys, of a file have the text and the label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from onetrunk.core.data.label_names import names_beside
from onetrunk.core.data.lines import DataSource
from onetrunk.core.data.notes import Note, NoteTally
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.tasks import JSONObject, Labels, Level, Record

_USUAL = {
    "text": (
        *(
            "sentence",
            "utterance",
            "question",
            "review",
            "content",
            "tweet",
            "message",
            "body",
            "query",
            "input",
        ),
        *("title", "comment", "document", "post", "headline", "description", "sms", "phrase"),
    ),
    "label": (
        *("intent", "category", "class", "target", "sentiment", "topic", "labels", "y", "tag", "emotion"),
        *("polarity", "label_text", "label_name", "rating", "stars"),
    ),
}
"""Usual names of the text and the label, in lower case."""

_EXACT: dict[str, tuple[str, ...]] = {
    "text": ("text", "label"),
    "token": ("text", "words", "tokens", "tags", "ner_tags", "entities"),
}
"""The keys that tasks of each level read."""
_WORDS = {"words", "tokens"}
_TARGETS = {"tags", "ner_tags", "entities"}
_SHOWN = 20


def is_usual_header(cells: Sequence[str]) -> bool:
    """Return whether `cells` name both a text and a label, exactly as OneTrunk does."""
    names = {cell.strip().lower() for cell in cells}
    return {"text", "label"} <= names


@dataclass(slots=True)
class ColumnNames:
    """Gives each record of a file the keys `text` and `label`.

    options: `text_column` and `label_column` name the keys; otherwise a key that differs in case is taken, or the
        only one with a usual name, with a note.
    level: of the task; None for records to predict, of which only the text is read.
    """

    options: ReadOptions
    level: Level | None
    _tally: NoteTally = field(default_factory=NoteTally)
    _found: dict[tuple[str, ...], dict[str, str]] = field(default_factory=dict)
    _beside: Mapping[str, Labels] | None = None
    _unclear: dict[str, list[str]] = field(default_factory=dict)

    def apply(self, record: Record, where: str) -> Record:
        """Return `record` with the keys that tasks read.

        A guessed key is added and the other one kept, because a task may read it; before prediction it is renamed.
        Raises ValueError for a record without the key that an option names.
        """
        if self.level == "token" and self.options.label_column is not None:
            record = _with_target(record, self.options.label_column)
        keys = tuple(record)
        if keys not in self._found:
            self._found[keys] = dict(self._sources(record))
        found = self._found[keys]
        if not found:
            return record
        changed: JSONObject = dict(record)
        for role, key in found.items():
            if role == "label" and key == "labels" and isinstance(record[key], list | tuple):
                continue  # tasks read lists of labels themselves
            changed[role] = record[key]
            if self.level is None:
                del changed[key]
            if self._given(role) is None:
                message = f"rows have their {role} in {key!r}"
                if role in _USUAL:
                    message += f"; --{role}-column names another one"
                self._tally.add("columns", message, where)
        return changed

    def names_of_labels(
        self, record: Record, names: Mapping[str, Labels], path: DataSource
    ) -> Mapping[str, Labels]:
        """Return the names of integer labels, also under the keys that tasks read.

        names: by the keys of the file. If it is empty, they can be in a file beside `path`.
        """
        given = self.options.label_column
        if self.level == "token" and given is not None and given in names:
            return {**names, "tags": names[given]}
        found = self._found.get(tuple(record))
        if not found:
            return names
        if not names and self._beside is None:
            self._beside = names_beside(path)
        every = names or self._beside or {}
        return {**every, **{role: every[key] for role, key in found.items() if key in every}}

    def hint(self, fault: str, *, table: bool) -> str:
        """Return what to do about `fault`, the message of a task that misses a key; "" if it is about another.

        table: whether the file has a header.
        """
        hints = []
        for role, keys in self._unclear.items():
            option = f"--{role}-column"
            if repr(role) in fault or f"no {role}" in fault:
                if keys:
                    hints.append(f"it could be {' or '.join(map(repr, keys))}: choose with {option}")
                elif role == "label" and set(self._found) == {("text",)}:
                    hints.append("the file has texts alone, such as one a line; expected a label with each")
                elif table:
                    hints.append(f"name its column with {option}, or add a header such as text,label")
        return "; ".join(hints)

    def notes(self, source: str) -> list[Note]:
        """Return the notes on `source`."""
        return self._tally.notes(source)

    def _given(self, role: str) -> str | None:
        return {"text": self.options.text_column, "label": self.options.label_column}.get(role)

    def _sources(self, record: Record) -> Iterator[tuple[str, str]]:
        """Yield (key that tasks read, key of the record) for the keys that differ."""
        for role in _EXACT[self.level] if self.level else ("text",):
            given = self._given(role)
            if given is not None:
                _check_key(role, given, record)
                if given != role:
                    yield role, given
            elif role not in record:
                key = self._guess(role, record)
                if key is not None:
                    yield role, key

    def _guess(self, role: str, record: Record) -> str | None:
        lower: dict[str, list[str]] = {}
        for key in record:
            lower.setdefault(key.strip().lower(), []).append(key)
        if role in lower:
            candidates = lower[role]
        elif role in _USUAL and not (role == "text" and _WORDS & set(lower)):
            candidates = [key for name in _USUAL[role] for key in lower.get(name, ())]
        else:
            candidates = []
        if len(candidates) == 1:
            return candidates[0]
        if role in _USUAL:
            self._unclear.setdefault(role, candidates)
        return None


def _with_target(record: Record, key: str) -> Record:
    """Return `record` with the tags or entities that are under `key`, and without others.

    Raises ValueError for a record without `key`.
    """
    _check_key("label", key, record)
    value = record[key]
    first = value[0] if isinstance(value, list | tuple) and value else None
    tagged = bool(_WORDS & set(record)) if first is None else isinstance(first, str | int)
    kept = {name: each for name, each in record.items() if name not in _TARGETS}
    return {**kept, "tags" if tagged else "entities": value}


def _check_key(role: str, key: str, record: Record) -> None:
    """Raise ValueError if `record` lacks the key that an option names for `role`."""
    if key not in record:
        shown = ", ".join(list(record)[:_SHOWN]) or "nothing"
        raise ValueError(f"--{role}-column names {key!r}; the record has: {shown}")
