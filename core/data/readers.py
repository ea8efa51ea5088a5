"""Raw records from files of all formats and from Python objects, with their places."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from onetrunk.core.data.formats.arrow import read_arrow, read_parquet
from onetrunk.core.data.formats.base import Reader, Source
from onetrunk.core.data.formats.conll import read_conll
from onetrunk.core.data.formats.conllu import read_conllu
from onetrunk.core.data.formats.exports import EXPORTS, detected, export_reader, records_of
from onetrunk.core.data.formats.jsonl import json_values, read_json, read_jsonl
from onetrunk.core.data.formats.python_objects import object_records
from onetrunk.core.data.formats.rasa import read_rasa
from onetrunk.core.data.formats.spacy import read_docbin
from onetrunk.core.data.formats.tables import read_table
from onetrunk.core.data.lines import DataSource, check_file, is_stream
from onetrunk.core.data.notes import Note
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.tasks import Labels, Record
from onetrunk.core.tasks.iob2 import is_tag

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
    ".txt": "conll",
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
_LIST_START = re.compile(r"\s*\[\s*(\{|\[\s*\"|$)")


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One raw record.

    where: `file:line`, with the file as the user named it and the first line of the record.
    columns: the header of a table; () for other formats.
    class_names: the names of integer labels by column, if the file lists them.
    """

    record: Record
    where: str
    columns: tuple[str, ...] = ()
    class_names: Mapping[str, Labels] = field(default_factory=dict)


def split_suffix(name: str) -> tuple[str, str]:
    """Return stem and suffix of a file name in lower case, without `.gz`: `Dev.JSON.gz` → dev, .json."""
    path = Path(name.lower().removesuffix(".gz"))
    return path.stem, path.suffix


def read_records(
    path: DataSource, options: ReadOptions = AS_WRITTEN, notes: list[Note] | None = None
) -> Iterator[SourceRecord]:
    """Yield the records of a file or of Python objects, one at a time; `-` reads standard input.

    options: `format` is one of `READERS`. By default the suffix of the file decides, see `SUFFIXES`, and for JSON
        and Python objects the keys of the first records, see `detected`. For standard input and pipes the first
        line that is not blank decides: `{` means JSONL, `[` or `[{` JSON, a header with a column `text` CSV or TSV,
        anything else CoNLL.
    notes: notes on the file are appended to this list while it is read.

    Raises, on iteration: UsageError for an unknown format; DataError for an unknown suffix, a file that cannot be
    read or has no records, and, with file and line, for a record that breaks the format.
    """
    source = Source(path, options, [] if notes is None else notes)
    kind, records = _records(source)
    record = None
    for number, record in records:
        columns = tuple(record) if kind in _TABLES else ()
        yield SourceRecord(record, source.place(number), columns, source.class_names)
    source.notes += source.tally.notes(source.name)
    if record is None:
        raise DataError(source.name, f"has no records; expected at least one ({kind})")


def _records(source: Source) -> tuple[str, Iterator[tuple[int, Record]]]:
    """Return the format of `source` and its numbered records."""
    kind = source.options.format
    if not isinstance(source.path, str | Path):
        values = object_records(source)
        if kind is not None and kind not in EXPORTS:
            raise UsageError(
                f"the format of Python objects is {kind!r}; expected one of {', '.join(EXPORTS)}"
            )
        return "python", detected(source, values) if kind is None else records_of(source, kind, values)
    if kind is None:
        kind = _format_of(source.path) or _sniff(source.first_line())
        if kind in ("json", "jsonl"):
            return kind, detected(source, json_values(source))
    if kind not in READERS:
        raise UsageError(f"unknown format {kind!r}; expected one of {', '.join(READERS)}")
    return kind, READERS[kind](source)


def _format_of(path: str | Path) -> str | None:
    """Return the format by the suffix of `path`; None for standard input and pipes without a known suffix."""
    _, suffix = split_suffix(Path(path).name)
    if suffix not in SUFFIXES:
        if is_stream(path):
            return None
        check_file(path)
        what = f"has the unknown suffix {suffix!r}" if suffix else "has no suffix"
        raise DataError(str(path), f"{what}; expected one of {', '.join(SUFFIXES)}; text files also with .gz")
    return SUFFIXES[suffix]


def _sniff(head: str) -> str:
    if head.lstrip().startswith("{"):
        return "jsonl"
    if _LIST_START.match(head):
        return "json"
    delimiter = "\t" if "\t" in head else ","
    header = [cell.strip(' "\r\n') for cell in head.split(delimiter)]
    if "text" in header and not is_tag(header[-1]):
        return "tsv" if delimiter == "\t" else "csv"
    return "conll"


READERS: dict[str, Reader] = {
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": partial(read_table, delimiter=","),
    "tsv": partial(read_table, delimiter="\t"),
    "conll": read_conll,
    "conllu": read_conllu,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "rasa": read_rasa,
    "docbin": read_docbin,
    **{name: export_reader(name) for name in EXPORTS},
}
"""The readers by the name of their format."""
