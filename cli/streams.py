"""Standard streams and output files whose I/O errors become UsageError.

The stream itself converts the error: further up, an OSError of a full disk could not be told from one of a bug. A
closed pipe stays a BrokenPipeError, which ends a command without a message.
"""

from __future__ import annotations

import errno
import io
import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO

from onetrunk.adapters.format.files import replacing
from onetrunk.core.errors import UsageError

_REMEDIES = {
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR), "choose a file in an existing folder"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose a file that you may write"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space, or write to another disk"),
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EBADF: "redirect it to a file, or to /dev/null to discard the output",
}
"""What to do about an error, by its number."""


@contextmanager
def clear_errors(name: str) -> Iterator[None]:
    """Turn an OSError of the block, except a closed pipe, into UsageError: `name` cannot be written, and why."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        why = "it is closed" if error.errno == errno.EBADF else error.strerror
        remedy = f"; {_REMEDIES[error.errno]}" if error.errno in _REMEDIES else ""
        raise UsageError(f"cannot write {name}: {why}{remedy}") from error


class _Output(io.FileIO):
    """Writes bytes to an open descriptor, which stays open. shown: its name in messages."""

    def __init__(self, descriptor: int, shown: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._shown = shown

    def write(self, data: Any, /) -> int:
        with clear_errors(self._shown):
            return super().write(data)


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Open `path` for writing UTF-8, as `whole_binary_file` does."""
    with whole_binary_file(path) as binary, io.TextIOWrapper(binary, encoding="utf-8", newline="\n") as file:
        yield file


@contextmanager
def whole_binary_file(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for writing; the file is replaced as a whole when the block ends without an error.

    An existing file keeps its permissions. A device or a pipe is written to directly. Raises UsageError if the file
    cannot be written or the disk is full.
    """
    target, shown = Path(os.path.realpath(path)), str(path)  # a symbolic link is kept; its target is replaced
    with ExitStack() as stack:
        with clear_errors(shown):
            raw = stack.enter_context(_opened(target))
        with io.BufferedWriter(_Output(raw.fileno(), shown)) as file:
            yield file
        with clear_errors(shown):
            stack.close()


def is_device(path: Path) -> bool:
    """Whether `path` is a device, a pipe or a socket. Raises UsageError for a folder, and if it cannot be seen."""
    with clear_errors(str(path)):
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            return False
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return not stat.S_ISREG(mode)


def open_output(path: Path, *, private: bool) -> BinaryIO:
    """Open a file for reading and writing, and create it if there is none. Raises OSError, also for a link.

    private: whether nobody else may read a new file.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o600 if private else 0o666), "r+b")


def _opened(target: Path) -> Any:
    """Return a context manager that opens `target` for writing bytes."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return replacing(target)
    if not stat.S_ISREG(mode):
        return open(target, "wb", buffering=0)
    return replacing(target, stat.S_IMODE(mode))


def guard_standard_streams() -> None:
    """Replace closed standard streams of this process, and give stdout clear errors.

    A closed stdin or stdout is replaced by a stream that fails when it is used; output to a closed stderr is
    discarded. This also occupies their descriptors: otherwise a file opened later could get number 1, and a library
    that prints would write into it.
    """
    if sys.stdin is None:
        sys.stdin = _null_stream(os.O_WRONLY, "r")
    if sys.stdout is None:
        sys.stdout = _null_stream(os.O_RDONLY, "w")
    if sys.stderr is None:
        sys.stderr = _null_stream(os.O_WRONLY, "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _withclear_errors(sys.stdout)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")


def _null_stream(access: int, mode: Literal["r", "w"]) -> TextIO:
    """Open the null device. If `access` does not fit `mode`, the stream fails when it is used."""
    return open(os.open(os.devnull, access), mode, encoding="utf-8", closefd=False)


def _withclear_errors(stdout: io.TextIOWrapper) -> TextIO:
    """Return a stream with the same target and buffering as `stdout`.

    Characters that its encoding does not have are written as escapes.
    """
    raw = _Output(stdout.fileno(), "stdout")
    buffer: Any = raw if stdout.write_through else io.BufferedWriter(raw)  # Python itself does the same
    return io.TextIOWrapper(
        buffer,
        encoding=stdout.encoding,
        errors="backslashreplace",
        line_buffering=stdout.line_buffering,
        write_through=stdout.write_through,
    )


def settle_stdout() -> None:
    """Discard the output if stdout fails, so that the final flush of the interpreter does not fail again."""
    try:
        sys.stdout.flush()
    except UsageError:
        _discard_stdout()


def stdout_is_closed() -> bool:
    """Whether the reader of stdout has closed the pipe. If so, further output is discarded."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    if not any(state & (select.POLLERR | select.POLLHUP) for _, state in poll.poll(0)):
        return False
    _discard_stdout()
    return True


def _discard_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
