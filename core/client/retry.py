"""Retries: which failed requests are sent again, after which pause, and for how long."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2

from onetrunk.core.errors import UsageError

_BUSY = (429, 503)
"""Status codes after which the same request may succeed later."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 10.0
"""Seconds between two tries of a request that a busy service refuses."""
_FIRST_PAUSE_UNREACHED, _SECONDS_UNREACHED = 0.1, 3.0
"""First pause after a failed connection, and the time limit for a connection. A restart takes about 3 seconds."""
_UNSURE = (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError)
"""Errors after which the service may have executed the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often, and for how long, requests to a busy service are repeated.

    tries: maximum number of tries, including the first one.
    seconds: the last try starts at most this many seconds after the first one.
    """

    tries: int = 8
    seconds: float = 60.0

    def __post_init__(self) -> None:
        """Raise UsageError for invalid values."""
        if self.tries < 1 or not self.seconds >= 0:
            given = f"tries is {self.tries} and seconds is {self.seconds}"
            raise UsageError(f"{given}; expected at least 1 try and at least 0 seconds")


PATIENT = Retries()
"""The default of the clients."""


class Tries:
    """Retry state of one request.

    repeatable: whether the request can be sent again although the service may have executed it.
    """

    def __init__(self, retries: Retries, repeatable: bool) -> None:
        self._retries, self._repeatable = retries, repeatable
        self._failed = 0  # connections that failed since the last response
        self._unreached = 0.0  # time of the first of these failures
        self.restart()

    def restart(self) -> None:
        """Count tries and seconds from now on, because a part of the request has succeeded."""
        self._done = 0
        self._began = time.monotonic()

    def after_answer(self, status: int, headers: Mapping[str, str]) -> float | None:
        """Return the seconds to wait before the next try; None if no further try follows this response."""
        self._done += 1
        self._failed = 0
        if status not in _BUSY:
            return None
        wait = pause(self._done, asked_for(headers, datetime.now(UTC)), random.random())
        return self._within(wait, self._began + self._retries.seconds)

    def after_failure(self, error: httpx2.HTTPError) -> float | None:
        """Return the seconds to wait before the next try; None if no further try follows `error`."""
        self._done += 1
        unsent = isinstance(error, httpx2.ConnectError)
        if not unsent and not (self._repeatable and isinstance(error, _UNSURE)):
            return None
        if not self._failed:
            self._unreached = time.monotonic()
        wait = _FIRST_PAUSE_UNREACHED * 2**self._failed * (1 + random.random() / 4)
        self._failed += 1
        brief = min(_SECONDS_UNREACHED, self._retries.seconds)
        return self._within(wait, self._unreached + brief)

    def _within(self, wait: float, end: float) -> float | None:
        return wait if self._done < self._retries.tries and time.monotonic() + wait <= end else None


def pause(tried: int, asked: float | None, chance: float) -> float:
    """Return the seconds to wait after `tried` tries: exponential backoff, and at least `asked` seconds.

    asked: seconds in the header Retry-After; None without one.
    chance: random number from 0 to 1, so that clients that were refused at the same time do not retry together.
    """
    own = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(tried - 1, 16))
    return max(own, asked or 0.0) * (1 + chance / 4)


def asked_for(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that the header Retry-After asks to wait; None if the header is missing or not valid.

    A date in Retry-After is compared with the time of the service, in the header Date; without it, with `now`.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    then = _date(text)
    if then is None:
        return None
    return max(0.0, (then - (_date(headers.get("date", "")) or now)).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
