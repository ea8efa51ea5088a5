"""The event log: a line of JSON for each event. It never contains texts, tokens or answers."""

from __future__ import annotations

import atexit
import json
import logging
import sys
import threading
import time
import traceback
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from typing import TextIO

from onetrunk.core.errors import OneTrunkError

_PACKAGE = "onetrunk"
_DELAY = 0.05
"""Delay of a line in seconds, so that several lines are written at once."""
_MAX_PER_SECOND = 20
_MAX_LINES = 100_000
"""Maximum number of lines that wait to be written; beyond it, the oldest lines are dropped."""
_ENCODER = json.JSONEncoder(default=str)


class EventLog:
    """Writes events as lines of JSON. Methods may be called from any thread.

    stream: by default stderr. Events are dropped if it is closed.

    A separate thread writes the lines: a write releases the GIL, and under load the caller would wait long to get
    the GIL back.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._lines: deque[str] = deque(maxlen=_MAX_LINES)
        self._pending, self._writing = threading.Event(), threading.Lock()
        threading.Thread(target=self._run, name="onetrunk-log", daemon=True).start()
        atexit.register(self.flush)

    def write(self, event: str, level: str = "info", **fields: object) -> None:
        """Log an event. level: info, warning or error. fields: further keys; None values are left out."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        given = {name: value for name, value in fields.items() if value is not None}
        self._lines.append(_ENCODER.encode({"time": now, "level": level, "event": event, **given}) + "\n")
        self._pending.set()

    def flush(self) -> None:
        """Write all waiting lines now."""
        with self._writing, suppress(OSError, ValueError):  # raised if the pipe or the stream is closed
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            stream = self._stream or sys.stderr
            stream.write("".join(lines))
            stream.flush()

    def capture_logging(self) -> None:
        """Write the records of `logging` to this log too. Changes the loggers of the whole process."""
        handler = _Handler(self)
        for name, level in (("", logging.WARNING), ("uvicorn", logging.WARNING), (_PACKAGE, logging.INFO)):
            logger = logging.getLogger(name)
            logger.handlers = [] if name else [handler]
            logger.propagate = True
            logger.setLevel(level)
        logging.captureWarnings(True)

    def _run(self) -> None:
        while self._pending.wait():
            time.sleep(_DELAY)
            self._pending.clear()
            self.flush()


class LogSampler:
    """Rate limiter for repeated events: the first 20 of each second are logged. Not thread-safe."""

    def __init__(self) -> None:
        self._second = self._count = self._left_out = 0

    def sample(self) -> int | None:
        """Count an event. Return None if it must not be logged, else how many were left out before it."""
        if (second := int(time.monotonic())) != self._second:
            self._second, self._count = second, 0
        self._count += 1
        if self._count > _MAX_PER_SECOND:
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        return left_out


class _Handler(logging.Handler):
    """Writes records of `logging` as events.

    Of an exception, types and frames are written, but the message only if it is one of OneTrunk: the message of
    another exception may contain a user's text.
    """

    def __init__(self, log: EventLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # the arguments do not fit the format string
            message = str(record.msg)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not record.name.startswith(
            _PACKAGE
        ):  # libraries add its message after the first line
            message = message.partition("\n")[0]
        trace = _trace(error) if error is not None else None
        name = record.name.removeprefix(f"{_PACKAGE}.")
        self._log.write("log", record.levelname.lower(), logger=name, message=message, traceback=trace)


def _trace(error: BaseException) -> str:
    """Return the types and frames of an exception and of its causes, the exception first."""
    lines: list[str] = []
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        kind = f"{type(cause).__module__}.{type(cause).__qualname__}".removeprefix("builtins.")
        lines.append(f"{kind}: {cause}" if isinstance(cause, OneTrunkError) else kind)
        frames = traceback.walk_tb(cause.__traceback__)
        lines += [f"  {each.f_code.co_filename}:{line}:{each.f_code.co_name}" for each, line in frames]
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\n".join(lines)
