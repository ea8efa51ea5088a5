"""Reader of files and standard input as numbered lines of UTF-8 text.

A line ends with LF or CRLF only: U+2028, U+0085 and form feed are part of the text.
"""

from __future__ import annotations

import errno
import gzip
import os
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from onetrunk.core.errors import DataError

STDIN = "-"
"""The path that means standard input."""

DataSource: TypeAlias = str | Path | Iterable[Any]
"""A file, `-`, or records in Python: mappings, a pandas DataFrame or a `datasets.Dataset`."""

NumberedLine = tuple[int, str]
"""The number of the line, from 1, and its text including the line end."""

_GZIP_MARK = b"\x1f\x8b"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def source_name(path: DataSource) -> str:
    """Return the name of `path` for messages: `stdin` for `-`, the type of Python objects, otherwise the path."""
    if not isinstance(path, str | Path):
        return type(path).__name__
    return "stdin" if str(path) == STDIN else str(path)


def is_stream(path: DataSource) -> bool:
    """Return whether `path` can be read only once: standard input, a device, or a pipe such as that of `<(…)`."""
    if not isinstance(path, str | Path):
        return False
    if str(path) == STDIN:
        return True
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False  # reading the file raises an error with a better message
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def read_lines(path: str | Path) -> Iterator[NumberedLine]:
    """Yield the lines of a file, of a gzip file (`….gz`) or of standard input (`-`), one at a time.

    Gzipped standard input and pipes are recognised by their first bytes. A byte order mark is removed.

    Raises DataError, on iteration, for a missing file, a folder, a file without permission and a broken gzip file;
    and, with line and byte, for NUL and for bytes that are not UTF-8.
    """
    name = source_name(path)
    try:
        with _open(path) as stream:
            for number, raw in enumerate(stream, 1):
                text = _decode(raw, f"{name}:{number}")
                yield number, text.removeprefix("\ufeff") if number == 1 else text
    except (OSError, EOFError, zlib.error) as fault:
        raise DataError(name, _reason(fault)) from fault


def check_file(path: str | Path) -> None:
    """Open the file `path` without reading it. Raises DataError if it is missing, a folder or not readable."""
    try:
        with _open(path):
            pass
    except OSError as fault:
        raise DataError(source_name(path), _reason(fault)) from fault


def peek(lines: Iterable[NumberedLine]) -> tuple[str, Iterator[NumberedLine]]:
    """Return the first line that is not blank ("" if all are), and an iterator over all lines."""
    rest = iter(lines)
    seen: list[NumberedLine] = []
    for line in rest:
        seen.append(line)
        if line[1].strip():
            break
    return (seen[-1][1] if seen else ""), chain(seen, rest)


@contextmanager
def _open(path: str | Path) -> Iterator[Iterable[bytes]]:
    if str(path) == STDIN:
        yield _stream_lines(sys.stdin.buffer)  # standard input must stay open
    elif str(path).lower().endswith(".gz"):
        with gzip.open(path, "rb") as lines:
            yield lines
    else:
        with open(path, "rb") as file:
            yield _stream_lines(file) if is_stream(path) else file


def _stream_lines(stream: BinaryIO) -> Iterator[bytes]:
    first = stream.readline()
    if first.startswith(_GZIP_MARK):  # a stream cannot be rewound, so it is read into memory, compressed
        with gzip.open(BytesIO(first + stream.read())) as lines:
            yield from lines
    elif first:
        yield first
        yield from stream


def _decode(raw: bytes, where: str) -> str:
    if raw.startswith(_UTF16_MARKS):
        raise DataError(where, f"byte 1 is 0x{raw[0]:02x}: this is UTF-16, not UTF-8; save it as UTF-8")
    if b"\0" in raw:
        raise DataError(
            where, f"byte {raw.index(0) + 1} is NUL: this is not a UTF-8 text file; save it as UTF-8"
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as fault:
        at = fault.start
        problem = f"byte {at + 1} (0x{raw[at]:02x}) is not UTF-8; save the file as UTF-8"
        raise DataError(where, problem) from fault


def _reason(fault: Exception) -> str:
    if isinstance(fault, FileNotFoundError):
        return "no such file"
    if isinstance(fault, IsADirectoryError):
        return "is a folder; expected a file"
    if isinstance(fault, PermissionError):
        return "cannot be read: permission denied; check its permissions"
    if isinstance(fault, gzip.BadGzipFile | EOFError | zlib.error):
        return f"is not a complete gzip file ({fault}); download or compress it again"
    if isinstance(fault, OSError) and fault.errno == errno.EBADF:
        return "is closed; pipe data into it, or name a file"
    return f"cannot be read: {getattr(fault, 'strerror', None) or fault}"
