"""The event log: one line of JSON per event. It contains no text, no token and no part of an answer."""

from __future__ import annotations

import atexit
import json
import logging
import sys
import threading
import time
import traceback
from collections import deque
from datetime import UTC, datetime
from typing import TextIO

from onetrunk.core.errors import OneTrunkError

_OURS = "onetrunk"
_SERVER = "uvicorn"
_PREFIX = f"{_OURS}."
_DELAY = 0.05
"""Seconds that a line may wait, so that several are written at once."""
MAX_PER_SECOND = 20
"""Number of events that a `LogSampler` lets through per second."""
_MAX_LINES = 100_000
"""Maximum number of lines that wait to be written; beyond it, the oldest are dropped."""


class EventLog:
    """Writes events as lines of JSON. Methods may be called from any thread.

    stream: by default stderr. If it is closed or its reader has gone, events are dropped and the service goes on.

    A thread of its own writes the lines: a write releases the GIL, and under load the caller would wait long to
    get it back.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._lines: deque[str] = deque(maxlen=_MAX_LINES)
        self._pending = threading.Event()
        self._writing, self._starting = threading.Lock(), threading.Lock()
        self._thread: threading.Thread | None = None

    def write(self, event: str, level: str = "info", **fields: object) -> None:
        """Log an event. level: info, warning or error. fields: those that are None are left out."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        given = {name: value for name, value in fields.items() if value is not None}
        self._lines.append(_ENCODER.encode({"time": now, "level": level, "event": event, **given}) + "\n")
        if not self._pending.is_set():
            self._pending.set()
            self._start()

    def flush(self) -> None:
        """Write all waiting lines now."""
        with self._writing:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            try:
                stream = self._stream or sys.stderr
                stream.write("".join(lines))
                stream.flush()
            except (OSError, ValueError):  # the pipe or the stream is closed; the service must go on
                return

    def capture_logging(self) -> None:
        """Write the records of `logging` to this log too. Changes the loggers of the whole process."""
        handler = _Handler(self)
        for name, level in (("", logging.WARNING), (_SERVER, logging.WARNING), (_OURS, logging.INFO)):
            logger = logging.getLogger(name)
            logger.handlers = [] if name else [handler]
            logger.propagate = True
            logger.setLevel(level)
        logging.captureWarnings(True)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="onetrunk-log", daemon=True)
                self._thread.start()
                atexit.register(self.flush)

    def _run(self) -> None:
        while self._pending.wait():
            time.sleep(_DELAY)
            self._pending.clear()
            self.flush()


class LogSampler:
    """Rate limiter for repeated events: lets the first `MAX_PER_SECOND` of each second through. Not thread-safe."""

    def __init__(self) -> None:
        self._second = self._count = self._left_out = 0

    def sample(self) -> int | None:
        """Count an event. Return None if it must be left out, else how many were left out since the last one."""
        if (second := int(time.monotonic())) != self._second:
            self._second, self._count = second, 0
        self._count += 1
        if self._count > MAX_PER_SECOND:
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        return left_out


class _Handler(logging.Handler):
    """Writes records of `logging` as events."""

    def __init__(self, log: EventLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record. Of an exception, write types and frames, but the message only if it is our own.

        The message of another exception may contain the text that caused it.
        """
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # the arguments do not fit the format string
            message = str(record.msg)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not record.name.startswith(_OURS):  # libraries put it in the message, too
            message = message.partition("\n")[0]
        trace = _trace(error) if error is not None else None
        name = record.name.removeprefix(_PREFIX)
        self._log.write("log", record.levelname.lower(), logger=name, message=message, traceback=trace)


def _trace(error: BaseException) -> str:
    """Return the types and frames of an exception and of its causes, the outermost first."""
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


_ENCODER = json.JSONEncoder(default=str)
