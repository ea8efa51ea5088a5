"""Raw records from JSONL, JSON, CSV, TSV, CoNLL and text files, with their line numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from onetrunk.core.data.formats.base import Reader, Source
from onetrunk.core.data.formats.conll import read_conll
from onetrunk.core.data.formats.jsonl import read_json, read_jsonl
from onetrunk.core.data.formats.plain import read_fasttext, read_text
from onetrunk.core.data.formats.tables import read_table
from onetrunk.core.data.lines import check_file, is_stream
from onetrunk.core.data.notes import Note
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.data.sniffing import format_of_lines, refuse_other_format
from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.tasks import Record

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
}
"""The format of each suffix. `.gz` can follow every suffix. A text file can also be of another format."""

_TABLES = ("csv", "tsv")
_LONGEST_LIST = 2**30
"""The longest line of a JSON list, in characters: it is read into memory anyway."""


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One raw record.

    where: `file:line`, with the file as the user named it and the first line of the record.
    columns: the header of a table; () for other formats.
    """

    record: Record
    where: str
    columns: tuple[str, ...] = ()


def split_suffix(name: str) -> tuple[str, str]:
    """Return stem and suffix of a file name in lower case, without `.gz`: `Dev.JSON.gz` → dev, .json."""
    path = Path(name.lower().removesuffix(".gz"))
    return path.stem, path.suffix


def read_records(
    path: str | Path,
    options: ReadOptions = AS_WRITTEN,
    notes: list[Note] | None = None,
    *,
    texts: bool = False,
) -> Iterator[SourceRecord]:
    """Yield the records of a file, one at a time; `-` reads standard input.

    options: `format` is one of `READERS`: `jsonl` (one object per line, blank lines are skipped), `json` (a list of
        objects, or JSONL), `csv` and `tsv` (a header and rows), `conll`, `text` (one text a line) or `fasttext`. By
        default the suffix of the file decides, see `SUFFIXES`. For `.txt`, and for standard input and pipes without
        a suffix, the first lines decide, see `format_of_lines`.
    notes: notes on the file are appended to this list while it is read.
    texts: whether standard input and pipes are expected to hold one text a line, as those of `.txt` always are.

    Raises, on iteration: UsageError for an unknown format; DataError for an unknown suffix, a file that cannot be
    read or has no records, and, with file and line, for a record that breaks the format.
    """
    source = Source(path, options, [] if notes is None else notes)
    kind = options.format or _format_of(path)
    source.longest = _LONGEST_LIST if kind == "json" else source.longest
    if kind is None or (kind == "text" and options.format is None):
        kind = format_of_lines(source, texts=texts or kind == "text")
    if kind not in READERS:
        raise UsageError(f"unknown format {kind!r}; expected one of {', '.join(READERS)}")
    if kind != "text":
        refuse_other_format(source, kind)
    record = None
    for number, record in READERS[kind](source):
        yield SourceRecord(record, f"{source.name}:{number}", tuple(record) if kind in _TABLES else ())
    if record is None and kind == "text":
        raise DataError(source.name, "is empty; expected one text per line")
    if record is None:
        raise DataError(source.name, f"has no records; expected at least one ({kind})")


def _format_of(path: str | Path) -> str | None:
    """Return the format by the suffix of `path`; None for standard input and pipes without a known suffix."""
    _, suffix = split_suffix(Path(path).name)
    if suffix not in SUFFIXES:
        if is_stream(path):
            return None
        check_file(path)
        what = f"has the unknown suffix {suffix!r}" if suffix else "has no suffix"
        raise DataError(str(path), f"{what}; expected one of {', '.join(SUFFIXES)}, also with .gz")
    return SUFFIXES[suffix]


READERS: dict[str, Reader] = {
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": partial(read_table, delimiter=","),
    "tsv": partial(read_table, delimiter="\t"),
    "conll": read_conll,
    "text": read_text,
    "fasttext": read_fasttext,
}
"""The readers by the name of their format."""
