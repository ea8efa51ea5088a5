"""Files and folders of artifacts and of the store: read regular files whole, and replace content atomically."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_OPEN_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)
_NAME_KEPT = 60
"""Characters of a file's name in the name of its temporary file, which must not become too long."""


class FileFault(ValueError):
    """A file cannot be used. The message says why, without the path, which callers add."""


class FileMissing(FileFault):
    """The file does not exist."""


def sha256(data: bytes) -> str:
    """Return the sha256 of `data`: 64 hexadecimal digits in lower case."""
    return hashlib.sha256(data).hexdigest()


def read_regular(path: Path, limit: int) -> bytes:
    """Return the whole content of a regular file of at most `limit` bytes.

    Raises FileMissing if there is no such file. Raises FileFault for a link, a pipe or a folder, for a larger file,
    and if the file cannot be opened.
    """
    try:
        data, size = _read(path, limit)
    except FileNotFoundError as error:
        raise FileMissing("is missing") from error
    except OSError as error:
        link = os.path.islink(path)
        why = "is a link, a regular file was expected" if link else f"cannot be read: {error.strerror}"
        raise FileFault(why) from error
    if size > limit:
        raise FileFault(f"has {size} bytes, at most {limit} are allowed")
    return data


def _read(path: Path, limit: int) -> tuple[bytes, int]:
    """Return the content and its size; no content if the size is above `limit`."""
    # Without O_NONBLOCK, opening a named pipe would wait for a writer for ever.
    descriptor = os.open(path, _OPEN_FLAGS)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileFault("is not a regular file")
        if status.st_size > limit:
            return b"", status.st_size
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            # A buffer of `limit` bytes would take longer to allocate than most files take to read.
            data = file.read(status.st_size + 1)
            if len(data) > status.st_size:  # the file has grown
                data += file.read(limit + 1 - len(data))
        return data, len(data)
    finally:
        os.close(descriptor)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet, and flush it to disk (fsync). Raises OSError."""
    with path.open("xb") as file:
        file.write(data)
        _sync(file)


@contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[BinaryIO]:
    """Open a temporary file, which replaces `path` when the block ends without an error. Raises OSError.

    A reader sees the whole old or the whole new content, even after a crash.

    mode: permission bits of the new file; None for the default of the process.
    """
    aside = path.with_name(f".{path.name[:_NAME_KEPT]}.{secrets.token_hex(4)}.part")

    def create(name: str, flags: int) -> int:
        return os.open(name, flags, 0o666 if mode is None else 0o600)  # never more permissions than `mode`

    try:
        with open(aside, "xb", opener=create) as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            yield file
            _sync(file)
        os.replace(aside, path)
        sync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def replace(path: Path, data: bytes) -> None:
    """Replace the content of `path` atomically, and delete temporary files that a crash has left. Raises OSError.

    The caller holds a lock, so that no other process writes to `path` at the same time.
    """
    for left in path.parent.glob(f".{path.name[:_NAME_KEPT]}.*.part"):
        left.unlink()
    with replacing(path) as file:
        file.write(data)


def move_folder(folder: Path, target: Path) -> None:
    """Rename a folder of files to `target`, which must not exist or be an empty folder. Raises OSError.

    All files are flushed to disk before the rename, so that a crash leaves the whole folder or none.
    """
    mode = "rb+" if os.name == "nt" else "rb"  # only Windows requires that the file can be written to
    for path in sorted(folder.iterdir()):
        with path.open(mode) as file:
            os.fsync(file.fileno())
    sync_folder(folder)
    if target.exists():
        target.rmdir()  # Windows does not rename onto an existing folder, even an empty one
    folder.rename(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Flush the entries of `folder` to disk: only then does a rename survive a power cut. Raises OSError."""
    if os.name == "nt":  # Windows cannot open folders, and does this itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
