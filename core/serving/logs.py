"""The log: one line of JSON an event, on stderr. Never a text, a token or what a label says of somebody's text."""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from datetime import UTC, datetime
from typing import TextIO

_OURS = "onetrunk"
_SERVER = "uvicorn"
_PREFIX = f"{_OURS}."


class EventLog:
    """Writes events as lines of JSON. Safe to share between threads.

    stream: where to; stderr by default. Where nobody reads it any more, events are lost and the service goes on.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, event: str, level: str = "info", **fields: object) -> None:
        """Write an event of this level (info, warning, error); fields that are None are left out."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        known = {name: value for name, value in fields.items() if value is not None}
        line = json.dumps({"time": now, "level": level, "event": event, **known}, default=str) + "\n"
        stream = self._stream or sys.stderr
        try:
            with self._lock:
                stream.write(line)
                stream.flush()
        except (OSError, ValueError):  # a closed pipe or stream; answers matter more than their log
            return

    def capture(self) -> None:
        """Have all that this process logs by `logging` written here as well."""
        handler = _Handler(self)
        for name, level in (("", logging.WARNING), (_SERVER, logging.WARNING), (_OURS, logging.INFO)):
            logger = logging.getLogger(name)
            logger.handlers = [] if name else [handler]
            logger.propagate = True
            logger.setLevel(level)


class _Handler(logging.Handler):
    """Writes what is logged as an event."""

    def __init__(self, log: EventLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, its traceback as one field."""
        trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else None
        self._log.write(
            "log",
            record.levelname.lower(),
            logger=record.name.removeprefix(_PREFIX),
            message=record.getMessage(),
            traceback=trace,
        )
