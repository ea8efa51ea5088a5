"""The texts that `predict` reads from files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onetrunk.core.data.lines import DataSource, is_stream, read_lines, source_name
from onetrunk.core.data.notes import Note
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.data.readers import SUFFIXES, SourceRecord, read_records, split_suffix
from onetrunk.core.errors import DataError


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

    The format `text` has one text per line; an empty line is an empty text. It is the default for `.txt`, standard
    input, and a pipe without a known suffix. Other files are read by `read_records`; each record needs a `text`.
    Raises, on iteration, the exceptions of `read_records`, and DataError for a record without a text.
    """
    if not isinstance(path, str | Path):
        return (_text_record(source) for source in read_records(path, options, notes))
    _, suffix = split_suffix(Path(path).name)
    plain = suffix == ".txt" or (suffix not in SUFFIXES and is_stream(path))
    if options.format == "text" or (options.format is None and plain):
        return _plain_texts(path)
    return (_text_record(source) for source in read_records(path, options, notes))


def _plain_texts(path: str | Path) -> Iterator[TextRecord]:
    name, number = source_name(path), 0
    for number, line in read_lines(path):
        yield TextRecord(line.removesuffix("\n").removesuffix("\r"), {}, f"{name}:{number}")
    if not number:
        raise DataError(name, "is empty; expected one text per line")


def _text_record(source: SourceRecord) -> TextRecord:
    extra = dict(source.record)
    text = extra.pop("text", None)
    if not isinstance(text, str):
        keys = ", ".join(source.record)
        raise DataError(source.where, f'"text" must be a string; the record has: {keys or "nothing"}')
    return TextRecord(text, extra, source.where)
