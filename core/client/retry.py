"""Retries: which requests are sent again, when, and for how long at most."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2

from onetrunk.core.errors import UsageError

LATER = (429, 503)
"""Status codes after which the same request may succeed later."""

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 10.0
_FIRST_PAUSE_UNREACHED = 0.1
_SECONDS_UNREACHED = 3.0  # a service that starts again is away for about as long
_UNSURE = (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often, and for how long, requests to a busy service are repeated.

    tries: maximum number of tries, including the first.  seconds: no try starts later than this after the first.
    """

    tries: int = 8
    seconds: float = 60.0

    def __post_init__(self) -> None:
        """Raise UsageError for invalid values."""
        if self.tries < 1 or not self.seconds >= 0:
            raise UsageError(
                f"tries is {self.tries} and seconds {self.seconds}; expected at least 1, and at least 0"
            )


PATIENT = Retries()
"""The default of a client."""


class Tries:
    """Retry state of one request. repeatable: whether it can be sent again if it may have been executed already."""

    def __init__(self, retries: Retries, repeatable: bool) -> None:
        self._retries, self._repeatable = retries, repeatable
        self._failed = 0  # since the last answer
        self._unreached = 0.0  # since when nothing answers
        self.restart()

    def restart(self) -> None:
        """Reset the number of tries after progress."""
        self._done = 0
        self._began = time.monotonic()

    def after_answer(self, status: int, headers: Mapping[str, str]) -> float | None:
        """Return the seconds to wait before the next try, None if the response is final."""
        self._done += 1
        self._failed = 0
        if status not in LATER:
            return None
        wait = pause(self._done, asked_for(headers, datetime.now(UTC)), random.random())
        return self._within(wait, self._began + self._retries.seconds)

    def after_failure(self, error: httpx2.HTTPError) -> float | None:
        """Return the seconds to wait before the next try, None if `error` is to be raised."""
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
        """Return `wait` if tries and time are left, else None."""
        return wait if self._done < self._retries.tries and time.monotonic() + wait <= end else None


def pause(tried: int, asked: float | None, chance: float) -> float:
    """Return the seconds to wait after `tried` tries: exponential backoff, at least `asked` (Retry-After).

    chance: random number from 0 to 1, which spreads the retries of clients that were refused at once.
    """
    own = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(tried - 1, 16))
    return max(own, asked or 0.0) * (1 + chance / 4)


def asked_for(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds of the header Retry-After, counted from `now`; None if it cannot be read.

    A date is compared with the header Date, the clock of the service.
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
    except (ValueError, OverflowError):  # not a date: the header is ignored
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
