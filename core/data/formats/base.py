"""The interface of readers, and the file that they read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from onetrunk.core.data.lines import (
    DataSource,
    NumberedLine,
    check_file,
    is_stream,
    peek,
    read_lines,
    source_name,
)
from onetrunk.core.data.notes import Note, NoteTally
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import Labels, Record


@dataclass(slots=True)
class Source:
    """A file, a stream or records in Python, read once.

    path: as the user gave it; `-` is standard input.
    options: how to read it.
    notes: readers append here.
    numbered: its lines; by default those of the file `path`.
    in_rows: whether readers number rows, as the file has no lines.
    class_names: the names of integer labels by column, if the file lists them.
    tally: of what a reader leaves out.
    """

    path: DataSource
    options: ReadOptions = AS_WRITTEN
    notes: list[Note] = field(default_factory=list)
    numbered: Iterator[NumberedLine] | None = None
    in_rows: bool = False
    class_names: Mapping[str, Labels] = field(default_factory=dict)
    tally: NoteTally = field(default_factory=NoteTally)

    @property
    def name(self) -> str:
        """The name for messages."""
        return source_name(self.path)

    def place(self, number: int) -> str:
        """Return the place of line or row `number` for messages: `file:3`, or `file:row 3`."""
        return f"{self.name}:{'row ' if self.in_rows else ''}{number}"

    @property
    def file(self) -> Path:
        """The path of a file that is read as bytes. Raises DataError for a stream, Python objects and `.gz`."""
        if not isinstance(self.path, str | Path) or is_stream(self.path):
            raise DataError(self.name, "this format cannot be read from a stream; give the name of a file")
        if str(self.path).lower().endswith(".gz"):
            raise DataError(self.name, "this format cannot be read with .gz; decompress the file with gunzip")
        check_file(self.path)
        return Path(self.path)

    def lines(self) -> Iterator[NumberedLine]:
        """Yield the lines with their numbers, from 1. Raises DataError as `read_lines` does."""
        if not isinstance(self.path, str | Path):
            raise DataError(self.name, "this format is one of files; give the name of a file")
        if self.numbered is None:
            self.numbered = read_lines(self.path)
        return self.numbered

    def first_line(self) -> str:
        """Return the first line that is not blank, "" without one; `lines` still yields all lines."""
        head, self.numbered = peek(self.lines())
        return head

    def note(self, kind: str, message: str, count: int = 0, where: str = "") -> None:
        """Add a note on this file."""
        self.notes.append(Note(kind, message, self.name, count, where))


class Reader(Protocol):
    """Reads one format: yields (number of the first line, record) for each record.

    Raises DataError, with file and line, for what breaks the format.
    """

    def __call__(self, source: Source) -> Iterator[tuple[int, Record]]:
        """Read `source`."""
        ...
