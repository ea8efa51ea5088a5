"""Files as the store needs them: read whole and only when regular, written durably, replaced atomically."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

_OPEN_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)


class FileFault(ValueError):
    """A file that cannot be used; the message says why, without its path. Callers turn it into their own error."""


class FileMissing(FileFault):
    """A file that is not there."""


def sha256(data: bytes) -> str:
    """Return the sha256 of `data`, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def read_regular(path: Path, limit: int) -> bytes:
    """Return the whole content of a regular file of at most `limit` bytes.

    Raises FileMissing, and FileFault for a link, a pipe or a folder, for more bytes, and when it cannot be opened.
    """
    try:
        data, size = _read(path, limit)
    except FileNotFoundError as error:
        raise FileMissing("is missing") from error
    except OSError as error:
        why = (
            "is a link, a regular file was expected"
            if path.is_symlink()
            else f"cannot be read: {error.strerror}"
        )
        raise FileFault(why) from error
    if size > limit:
        raise FileFault(f"has {size} bytes, at most {limit} are allowed")
    return data


def _read(path: Path, limit: int) -> tuple[bytes, int]:
    """Return the content and its size; nothing is read of a file that says it is larger than `limit`."""
    # Without O_NONBLOCK a named pipe would hold us here for ever.
    descriptor = os.open(path, _OPEN_FLAGS)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileFault("is not a regular file")
        if status.st_size > limit:
            return b"", status.st_size
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            # Room for `limit` bytes would take longer to get than most files.
            data = file.read(status.st_size + 1)
            if len(data) > status.st_size:  # it has grown
                data += file.read(limit + 1 - len(data))
        return data, len(data)
    finally:
        os.close(descriptor)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet, and return when it is on the disk. Raises OSError."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, data: bytes) -> None:
    """Replace `path` so that a reader, or a crash, sees the old or the new content whole. Raises OSError.

    The caller holds the lock that keeps other writers of `path` away.
    """
    aside = path.with_name(f"{path.name}.new")
    aside.unlink(missing_ok=True)
    write_new(aside, data)
    os.replace(aside, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the entries of `folder` to the disk: a rename survives a power cut only after this. Raises OSError."""
    if os.name == "nt":  # Windows gives no handle to a folder and orders its own metadata
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(folder: Path) -> None:
    """Bring every file of a flat folder, then the folder, to the disk. Raises OSError."""
    mode = "rb+" if os.name == "nt" else "rb"  # files may be read-only, which only Windows minds
    for path in sorted(folder.iterdir()):
        with path.open(mode) as file:
            os.fsync(file.fileno())
    sync_folder(folder)
