"""Reads files, gzip files and standard input as bounded blocks of bytes."""

from __future__ import annotations

import errno
import gzip
import os
import re
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, cast

from onetrunk.core.errors import DataError

STDIN = "-"
"""The path that means standard input."""

DataSource: TypeAlias = str | Path | Iterable[Any]
"""A file, `-`, or records in Python: mappings, a pandas DataFrame or a `datasets.Dataset`."""

UNZIPPED_FREE = 16 * 2**20
"""Up to this many bytes, a gzip file can have any ratio."""
MAX_RATIO = 200
"""Beyond `UNZIPPED_FREE`, the largest allowed ratio of decompressed to compressed bytes."""
MAX_UNZIPPED = 64 * 2**30
"""The largest number of decompressed bytes of a gzip file."""

_BLOCK = 256 * 2**10
_SNIFFED = 8
_GZIP_MARK = b"\x1f\x8b"
_BINARY = {
    rb"PK\x03\x04": "a zip archive; extract it first",
    rb"\xd0\xcf\x11\xe0": "an Excel workbook (.xls); save it as CSV UTF-8",
    rb"PAR1[\x00-\x1f]": "a Parquet file; give it the suffix .parquet",
    rb"ARROW1\0": "an Arrow file; give it the suffix .arrow",
    rb"%PDF-": "a PDF document; save its text as a text file",
    rb"\x28\xb5\x2f\xfd": "compressed with zstd; decompress it with `zstd -d`",
    rb"\xfd7zXZ\0": "compressed with xz; decompress it with `xz -d`",
    rb"BZh[1-9]1AY&SY": "compressed with bzip2; decompress it with `bunzip2`",
    rb"7z\xbc\xaf\x27\x1c": "a 7z archive; extract it first",
    rb"SQLite format 3\0": "an SQLite database; export its table as CSV",
    rb"\x89HDF": "an HDF5 file; export its table as CSV",
    rb".{257}ustar": "a tar archive; extract it first",
}
_ZIPPED = {
    b"xl/": "an Excel workbook (.xlsx); save it as CSV UTF-8",
    b"word/": "a Word document (.docx); save its text as UTF-8",
    b"opendocument": "an OpenDocument file; save it as CSV or text",
}
"""Documents that are zip archives, by a part of their first bytes."""


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


def read_blocks(path: str | Path) -> Iterator[bytes]:
    """Yield the bytes of `path`, decompressed, as soon as they can be read.

    Files with the suffix `.gz`, and those that begin as gzip files do, are decompressed.
    Raises DataError, on iteration, for a file that cannot be read, a broken gzip file, one that decompresses to too
    many bytes (see `MAX_RATIO` and `MAX_UNZIPPED`), and a file in a known binary format, which is named.
    """
    name = source_name(path)
    try:
        with _opened(path) as stream:
            head = _head(stream)
            zipped = str(path).lower().endswith(".gz") or head.startswith(_GZIP_MARK)
            blocks = _unzipped(name, head, stream) if zipped else _rest(head, stream)
            for number, block in enumerate(blocks):
                if not number:
                    _refuse_binary(name, block)
                yield block
    except (OSError, EOFError, zlib.error) as fault:
        raise DataError(name, _reason(fault)) from fault


def check_file(path: str | Path) -> None:
    """Open the file `path` without reading it. Raises DataError if it is missing, a folder or not readable."""
    try:
        with _opened(path):
            pass
    except OSError as fault:
        raise DataError(source_name(path), _reason(fault)) from fault


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    if str(path) == STDIN:
        yield sys.stdin.buffer  # standard input must stay open
    else:
        with open(path, "rb") as file:
            yield file


def _head(stream: Any) -> bytes:
    """Return enough bytes to recognize a format, or a whole line, without waiting for more."""
    head = b""
    while len(head) < _SNIFFED and b"\n" not in head and (more := stream.read1(_BLOCK)):
        head += more
    return head


def _rest(head: bytes, stream: Any) -> Iterator[bytes]:
    block = head
    while block:
        yield block
        block = stream.read1(_BLOCK)


class _Compressed:
    """The compressed bytes of a stream, which are counted."""

    def __init__(self, head: bytes, stream: Any) -> None:
        self._head, self._stream = head, stream
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes, b"" at the end."""
        wanted = size if size > 0 else _BLOCK
        data, self._head = self._head[:wanted], self._head[wanted:]
        data = data or self._stream.read1(wanted)
        self.taken += len(data)
        return data


def _unzipped(name: str, head: bytes, stream: Any) -> Iterator[bytes]:
    compressed, total = _Compressed(head, stream), 0
    with gzip.GzipFile(fileobj=cast(Any, compressed)) as file:
        while block := file.read1(_BLOCK):
            total += len(block)
            if total > MAX_UNZIPPED or (total > UNZIPPED_FREE and total > MAX_RATIO * compressed.taken):
                limits = (
                    f"at most {UNZIPPED_FREE // 2**20} MiB, or {MAX_RATIO} times the compressed size up to "
                    f"{MAX_UNZIPPED // 2**30} GiB, are read"
                )
                raise DataError(
                    name, f"decompresses to over {total:,} bytes; {limits}; decompress it with gunzip"
                )
            yield block


def _refuse_binary(name: str, block: bytes) -> None:
    for mark, what in _BINARY.items():
        if re.match(mark, block, re.DOTALL):
            if block.startswith(b"PK"):
                what = next((name for part, name in _ZIPPED.items() if part in block), what)
            raise DataError(name, f"is not a text file: this is {what}")


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
