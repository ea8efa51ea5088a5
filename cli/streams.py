"""Standard streams and output files whose I/O errors become UsageError.

The stream itself converts the error, because callers could not tell a full disk from an OSError of a bug. A closed
pipe stays a BrokenPipeError, which ends a command without a message.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TextIO

from onetrunk.core.errors import UsageError

_ELSEWHERE = "name a file in a folder that is there"
_ROOM = "make room, or write elsewhere"
_PERMISSION = "name a file that may be written to"
_REMEDIES = {
    errno.ENOENT: _ELSEWHERE,
    errno.ENOTDIR: _ELSEWHERE,
    errno.EISDIR: _ELSEWHERE,
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EROFS: _PERMISSION,
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EBADF: "redirect it, to /dev/null where nobody reads it",
}

Opener = Callable[[str, int], int]


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


class _OutputFile(io.FileIO):
    """A file or descriptor to write bytes to. shown: its name in messages."""

    def __init__(
        self, file: Path | int, mode: str, shown: str, *, closefd: bool = True, opener: Opener | None = None
    ) -> None:
        self._shown = shown
        with clear_errors(shown):
            super().__init__(str(file) if isinstance(file, Path) else file, mode, closefd, opener)

    def write(self, data: Any, /) -> int:
        with clear_errors(self._shown):
            return super().write(data)

    def close(self) -> None:
        with clear_errors(self._shown):  # a network file system may report a full disk only now
            super().close()


def open_output(file: Path, mode: str, shown: str, opener: Opener | None = None) -> TextIO:
    """Open `file` to write UTF-8. Errors of opening, writing and closing are raised as UsageError."""
    raw = _OutputFile(file, mode, shown, opener=opener)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", newline="\n")


def guard_standard_streams() -> None:
    """Replace closed standard streams of this process, and give stdout clear errors.

    A closed stdin or stdout is replaced by a stream that fails when it is used; output to a closed stderr is
    discarded. This also occupies their descriptors: otherwise a file opened later could get number 1, and a library
    that prints would write into it.
    """
    if sys.stdin is None:
        sys.stdin = _stand_in(os.O_WRONLY, "r")
    if sys.stdout is None:
        sys.stdout = _stand_in(os.O_RDONLY, "w")
    if sys.stderr is None:
        sys.stderr = _stand_in(os.O_WRONLY, "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _told_stdout(sys.stdout)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")


def _stand_in(access: int, mode: Literal["r", "w"]) -> TextIO:
    return open(os.open(os.devnull, access), mode, encoding="utf-8", closefd=False)


def _told_stdout(stdout: io.TextIOWrapper) -> TextIO:
    """Return a stream with the same target and buffering as `stdout`.

    Characters that its encoding does not have are written as escapes.
    """
    raw = _OutputFile(stdout.fileno(), "w", "stdout", closefd=False)
    buffer: Any = raw if stdout.write_through else io.BufferedWriter(raw)  # as Python itself does
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
        _lead_nowhere()


def stdout_is_closed() -> bool:
    """Whether the reader of stdout has closed the pipe. If so, further output is discarded."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    if not any(state & (select.POLLERR | select.POLLHUP) for _, state in poll.poll(0)):
        return False
    _lead_nowhere()
    return True


def _lead_nowhere() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
