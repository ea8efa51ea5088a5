"""The interface of readers, and the file that they read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from onetrunk.core.data.lines import MAX_LINE, NumberedLine, peek, read_lines, source_name
from onetrunk.core.data.notes import Note
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.tasks import Record


@dataclass(slots=True)
class Source:
    """A file, or a stream, that is read once.

    path: as the user gave it; `-` is standard input.
    options: how to read it.
    notes: readers append here.
    numbered: its lines; by default those of the file `path`.
    longest: the largest number of characters in a line.
    """

    path: str | Path
    options: ReadOptions = AS_WRITTEN
    notes: list[Note] = field(default_factory=list)
    numbered: Iterator[NumberedLine] | None = None
    longest: int = MAX_LINE

    @property
    def name(self) -> str:
        """The name for messages."""
        return source_name(self.path)

    def lines(self) -> Iterator[NumberedLine]:
        """Yield the lines with their numbers, from 1. Raises DataError as `read_lines` does."""
        if self.numbered is None:
            self.numbered = read_lines(self.path, self.options.encoding, self.notes, self.longest)
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
