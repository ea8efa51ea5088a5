"""Reader of files and standard input as numbered lines of text.

A line ends with LF or CRLF; in a file without LF, with CR. U+2028, U+0085 and form feed are part of the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from onetrunk.core.data.files.byte_blocks import (
    STDIN,
    DataSource,
    check_file,
    is_stream,
    read_blocks,
    source_name,
)
from onetrunk.core.data.files.encodings import TextDecoder, check_encoding
from onetrunk.core.data.notes import Note
from onetrunk.core.errors import DataError

__all__ = [
    "MAX_LINE",
    "STDIN",
    "DataSource",
    "NumberedLine",
    "check_file",
    "is_stream",
    "peek",
    "read_lines",
    "source_name",
]

MAX_LINE = 64 * 2**20
"""The longest line that is read, in characters."""

NumberedLine = tuple[int, str]
"""The number of the line, from 1, and its text including the line end."""

_MARK = "\ufeff"


def read_lines(
    path: str | Path, encoding: str | None = None, notes: list[Note] | None = None, longest: int = MAX_LINE
) -> Iterator[NumberedLine]:
    """Yield the lines of a file, of a gzip file or of standard input (`-`), one at a time.

    A byte order mark at the beginning of a line is removed.
    encoding: see `TextDecoder`.
    notes: notes on the encoding, on line ends and on marks are appended here.
    longest: the largest number of characters in a line.
    Raises UsageError for an unknown encoding; DataError, on iteration, as `read_blocks` and `TextDecoder` do, and
    for NUL and for a line that is too long.
    """
    if encoding is not None:
        check_encoding(encoding)
    name, notes = source_name(path), [] if notes is None else notes
    decoder = TextDecoder(name, encoding, notes)
    marks, first_mark = 0, ""
    lines = _lines(name, decoder.decode(read_blocks(path)), notes, longest)
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            at = len(line[: line.index("\0")].encode("utf-8")) + 1
            raise DataError(
                f"{name}:{number}",
                f"byte {at} is NUL: this is not a text file; remove the byte, or save it as UTF-8",
            )
        if line.startswith(_MARK):
            line = line.lstrip(_MARK)
            if number > 1:
                marks, first_mark = marks + 1, first_mark or f"{name}:{number}"
        yield number, line
    if marks:
        message = f"byte order marks inside the file are removed: {marks}"
        notes.append(Note("byte-order-marks", message, name, marks, first_mark))


def peek(lines: Iterable[NumberedLine]) -> tuple[str, Iterator[NumberedLine]]:
    """Return the first line that is not blank ("" if all are), and an iterator over all lines."""
    rest = iter(lines)
    seen: list[NumberedLine] = []
    for line in rest:
        seen.append(line)
        if line[1].strip():
            break
    return (seen[-1][1] if seen else ""), chain(seen, rest)


def _lines(name: str, blocks: Iterator[str], notes: list[Note], longest: int) -> Iterator[str]:
    """Yield the lines of a text given in blocks. CR ends a line if the first block with a line end has no LF."""
    head, blocks = _until_line_end(blocks, longest)
    end = "\r" if "\r" in head and "\n" not in head else "\n"
    if end == "\r":
        notes.append(Note("line-ends", "lines end with CR alone, as on old Macs", name, where=f"{name}:1"))
    number, parts, held = 1, [], 0
    for block in chain([head], blocks):
        first, *others = block.split(end)
        parts.append(first)
        held += len(first)
        if held > longest:
            raise _too_long(name, number, longest)
        for other in others:
            yield "".join(parts) + "\n"
            number, parts, held = number + 1, [other], len(other)
    if held:
        yield "".join(parts)


def _until_line_end(blocks: Iterator[str], longest: int) -> tuple[str, Iterator[str]]:
    """Return the text up to the first block with a line end that is not cut after CR, and the blocks after it."""
    parts: list[str] = []
    for block in blocks:
        parts.append(block)
        if "\n" in block or "\r" in block[:-1] or sum(map(len, parts)) > longest:
            break
    return "".join(parts), blocks


def _too_long(name: str, number: int, longest: int) -> DataError:
    limit = f"the line has more than {longest:,} characters, which is the limit"
    return DataError(
        f"{name}:{number}", f"{limit}; split it, or write one record a line (JSONL) if it is a JSON list"
    )
