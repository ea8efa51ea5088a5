"""Raw records from files of all formats and from Python objects, with their places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from onetrunk.core.data.files.byte_blocks import read_blocks
from onetrunk.core.data.formats.arrow import read_arrow, read_parquet
from onetrunk.core.data.formats.base import Reader, Source
from onetrunk.core.data.formats.conll import read_conll
from onetrunk.core.data.formats.conllu import read_conllu
from onetrunk.core.data.formats.exports import EXPORTS, detected, export_reader, records_of
from onetrunk.core.data.formats.jsonl import json_values, read_json, read_jsonl
from onetrunk.core.data.formats.plain import read_fasttext, read_text
from onetrunk.core.data.formats.python_objects import object_records
from onetrunk.core.data.formats.rasa import read_rasa
from onetrunk.core.data.formats.sniffing import format_of_lines, is_conllu, refuse_other_format
from onetrunk.core.data.formats.spacy import read_docbin
from onetrunk.core.data.formats.tables import read_table
from onetrunk.core.data.lines import DataSource, is_stream
from onetrunk.core.data.notes import Note
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.tasks import Labels, Record

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".txt": "text",
    ".conllu": "conllu",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".md": "rasa",
    ".yml": "rasa",
    ".yaml": "rasa",
    ".spacy": "docbin",
}
"""The format of each suffix. `.gz` can follow that of a text file."""

_TABLES = ("csv", "tsv", "parquet", "arrow", "python")
_TEXT_FILES = ("jsonl", "json", "csv", "tsv", "conll", "conllu")
_LONGEST_LIST = 2**30
"""The longest line of a JSON list, in characters: it is read into memory anyway."""


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One raw record.

    where: `file:line`, with the file as the user named it and the first line of the record.
    columns: the header of a table; () for other formats.
    class_names: the names of integer labels by column, if the file lists them.
    exported: whether it is of an export of another tool.
    """

    record: Record
    where: str
    columns: tuple[str, ...] = ()
    class_names: Mapping[str, Labels] = field(default_factory=dict)
    exported: bool = False


def split_suffix(name: str) -> tuple[str, str]:
    """Return stem and suffix of a file name in lower case, without `.gz`: `Dev.JSON.gz` → dev, .json."""
    path = Path(name.lower().removesuffix(".gz"))
    return path.stem, path.suffix


def read_records(
    path: DataSource,
    options: ReadOptions = AS_WRITTEN,
    notes: list[Note] | None = None,
    *,
    texts: bool = False,
) -> Iterator[SourceRecord]:
    """Yield the records of a file or of Python objects, one at a time; `-` reads standard input.

    options: `format` is one of `READERS`. By default the suffix of the file decides, see `SUFFIXES`, and for JSON
        and Python objects the keys of the first records, see `detected`. For `.txt`, and for standard input and
        pipes without a suffix, the first lines decide, see `format_of_lines`.
    notes: notes on the file are appended to this list while it is read.
    texts: whether standard input and pipes are expected to hold one text a line, as `.txt` files are.

    Raises, on iteration: UsageError for an unknown format; DataError for an unknown suffix, a file that cannot be
    read or has no records, and, with file and line, for a record that breaks the format.
    """
    source = Source(path, options, [] if notes is None else notes)
    kind, records = _records(source, texts=texts)
    record = None
    for number, record in records:
        columns = tuple(record) if kind in _TABLES else ()
        yield SourceRecord(record, source.place(number), columns, source.class_names, source.exported)
    source.notes += source.tally.notes(source.name)
    if record is None and kind == "text":
        raise DataError(source.name, "is empty; expected one text per line")
    if record is None:
        raise DataError(source.name, f"has no records; expected at least one ({kind})")


def _records(source: Source, *, texts: bool) -> tuple[str, Iterator[tuple[int, Record]]]:
    """Return the format of `source` and its numbered records."""
    kind = source.options.format
    if not isinstance(source.path, str | Path):
        values = object_records(source)
        if kind is not None and kind not in EXPORTS:
            raise UsageError(
                f"the format of Python objects is {kind!r}; expected one of {', '.join(EXPORTS)}"
            )
        return "python", detected(source, values) if kind is None else records_of(source, kind, values)
    named = kind or _format_of(source.path)
    source.longest = _LONGEST_LIST if named == "json" or named in EXPORTS else source.longest
    if named is None or (kind is None and named == "text"):
        named = format_of_lines(source, texts=texts or named == "text")
    if named not in READERS:
        raise UsageError(f"unknown format {named!r}; expected one of {', '.join(READERS)}")
    if named in _TEXT_FILES:
        refuse_other_format(source, named)
    if kind is None and named in ("json", "jsonl"):
        return named, detected(source, json_values(source))
    if kind is None and named == "conll" and is_conllu(source):
        named = "conllu"
    return named, READERS[named](source)


def _format_of(path: str | Path) -> str | None:
    """Return the format by the suffix of `path`; None for standard input and pipes without a known suffix."""
    _, suffix = split_suffix(Path(path).name)
    if suffix not in SUFFIXES:
        if is_stream(path):
            return None
        next(read_blocks(path), b"")  # a file that cannot be read, or is of a known binary format, is named
        what = f"has the unknown suffix {suffix!r}" if suffix else "has no suffix"
        raise DataError(str(path), f"{what}; expected one of {', '.join(SUFFIXES)}; text files also with .gz")
    return SUFFIXES[suffix]


READERS: dict[str, Reader] = {
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": partial(read_table, delimiter=","),
    "tsv": partial(read_table, delimiter="\t"),
    "conll": read_conll,
    "text": read_text,
    "fasttext": read_fasttext,
    "conllu": read_conllu,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "rasa": read_rasa,
    "docbin": read_docbin,
    **{name: export_reader(name) for name in EXPORTS},
}
"""The readers by the name of their format."""
