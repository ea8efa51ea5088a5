"""The texts that `predict` reads from files."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from onetrunk.core.data.columns import ColumnNames
from onetrunk.core.data.lines import STDIN, DataSource, source_name
from onetrunk.core.data.notes import Note
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.data.readers import SourceRecord, read_records
from onetrunk.core.data.record_checks import TextChecks
from onetrunk.core.data.table_cells import with_lists
from onetrunk.core.errors import DataError
from onetrunk.core.tasks.detokenizer import join_words

_WORDS = ("words", "tokens")


@dataclass(frozen=True, slots=True)
class TextRecord:
    """A text to predict. extra: the other keys of its record. where: `file:line`."""

    text: str
    extra: Mapping[str, Any]
    where: str


def load_unlabelled(
    path: DataSource, options: ReadOptions = AS_WRITTEN, notes: list[Note] | None = None
) -> Iterator[TextRecord]:
    """Yield the texts of a file, or of Python objects, one at a time.

    The format `text` has one text per line; an empty line is an empty text. It is what a `.txt` file, standard
    input, and a pipe without a known suffix hold, unless their first lines show another format, see
    `format_of_lines`; a terminal always gives texts. Other files are read by `read_records`; each record needs a
    `text`, or a list under `words` or `tokens`, which are joined by spaces, or as `spaces` says, and
    kept in `extra`.
    Raises, on iteration, the exceptions of `read_records`, and DataError for a record without a text.
    """
    notes = [] if notes is None else notes
    if options.format is None and path == STDIN and sys.stdin.isatty():
        options = replace(options, format="text")
    columns, checks = ColumnNames(options, None), TextChecks()
    for source in read_records(path, options, notes, texts=True):
        found = _text_record(source, columns)
        checks.observe(found.text, found.where)
        yield found
    name = source_name(path)
    notes += columns.notes(name) + checks.notes(name)


def _text_record(source: SourceRecord, columns: ColumnNames) -> TextRecord:
    try:
        extra = dict(source.record if source.exported else columns.apply(source.record, source.where))
    except ValueError as fault:
        raise DataError(source.where, str(fault)) from fault
    if source.columns and extra.get("text") is None:
        extra = _with_words(extra, source.where)
    words = next((extra[key] for key in _WORDS if extra.get(key) is not None), None)
    if extra.get("text") is None and words is not None:
        extra.pop("text", None)
        return TextRecord(_joined(words, extra.get("spaces"), source.where), extra, source.where)
    text = extra.pop("text", None)
    if not isinstance(text, str):
        keys = ", ".join(list(source.record)[:20])
        message = f'"text" must be a string; the record has: {keys or "nothing"}'
        hint = columns.hint(message.replace('"', "'"), table=bool(source.columns))
        raise DataError(source.where, f"{message}; {hint}" if hint else message)
    return TextRecord(text, extra, source.where)


def _with_words(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    try:
        return dict(with_lists(row))
    except ValueError as fault:
        raise DataError(where, str(fault)) from fault


def _joined(words: Any, spaces: Any, where: str) -> str:
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise DataError(where, f"the words must be a list of strings, found {str(words)[:80]}")
    try:
        return join_words(words, spaces if isinstance(spaces, list) else None)[0]
    except ValueError as fault:
        raise DataError(where, str(fault)) from fault
