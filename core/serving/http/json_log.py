"""The log: one line of JSON an event, on stderr. Never a text, a token or what a label says of somebody's text."""

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
"""Seconds that a line may wait for others, to be written with them."""
SHOWN = 20
"""Events of a kind that are written each second, where a flood of them would cost more than it tells."""
_KEPT = 100_000
"""Lines that wait at most where nobody takes them; then the oldest are lost."""


class EventLog:
    """Writes events as lines of JSON. Safe to share between threads.

    stream: where to; stderr by default. Where nobody reads it any more, events are lost and the service goes on.
    A thread of its own writes: who writes lets go of the interpreter, and under load waits long to have it back.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._lines: deque[str] = deque(maxlen=_KEPT)
        self._some = threading.Event()
        self._writing, self._starting = threading.Lock(), threading.Lock()
        self._thread: threading.Thread | None = None

    def write(self, event: str, level: str = "info", **fields: object) -> None:
        """Write an event of this level (info, warning, error); fields that are None are left out."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        known = {name: value for name, value in fields.items() if value is not None}
        self._lines.append(_ENCODER.encode({"time": now, "level": level, "event": event, **known}) + "\n")
        if not self._some.is_set():
            self._some.set()
            self._start()

    def flush(self) -> None:
        """Write what waits now."""
        with self._writing:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            try:
                stream = self._stream or sys.stderr
                stream.write("".join(lines))
                stream.flush()
            except (OSError, ValueError):  # a closed pipe or stream; answers matter more than their log
                return

    def capture_logging(self) -> None:
        """Have all that this process logs by `logging` written here as well."""
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
        while self._some.wait():
            time.sleep(_DELAY)
            self._some.clear()
            self.flush()


class LogSampler:
    """Says which of many events alike are written: the first `SHOWN` of each second. Belongs to one thread."""

    def __init__(self) -> None:
        self._second = self._count = self._left_out = 0

    def take(self) -> int | None:
        """Return how many have been left out since the last one that was not; None if this one is, too."""
        if (second := int(time.monotonic())) != self._second:
            self._second, self._count = second, 0
        self._count += 1
        if self._count > SHOWN:
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        return left_out


class _Handler(logging.Handler):
    """Writes what is logged as an event."""

    def __init__(self, log: EventLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; of an error its types and frames, and never the message of one that is not ours: it may
        have the text that it came of."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # somebody's arguments do not fit the text
            message = str(record.msg)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not record.name.startswith(_OURS):  # others have it in their message, too
            message = message.partition("\n")[0]
        trace = _trace(error) if error is not None else None
        name = record.name.removeprefix(_PREFIX)
        self._log.write("log", record.levelname.lower(), logger=name, message=message, traceback=trace)


def _trace(error: BaseException) -> str:
    """Return an error with those that led to it, the last one first."""
    told: list[str] = []
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        kind = f"{type(cause).__module__}.{type(cause).__qualname__}".removeprefix("builtins.")
        told.append(f"{kind}: {cause}" if isinstance(cause, OneTrunkError) else kind)
        frames = traceback.walk_tb(cause.__traceback__)
        told += [f"  {each.f_code.co_filename}:{line}:{each.f_code.co_name}" for each, line in frames]
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\n".join(told)


_ENCODER = json.JSONEncoder(default=str)
