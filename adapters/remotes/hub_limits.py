"""Limits of the Hub client's session: how long it waits on request of the Hub, and how many bytes it reads.

huggingface_hub repeats some requests itself. It then waits as long as `Retry-After` or `RateLimit` say, which could
be a day, and reads an answer of any length into memory.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from email.utils import parsedate_to_datetime

import httpx2
from huggingface_hub import get_session
from huggingface_hub.errors import HfHubHTTPError

PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses of temporary failures."""
LONGEST_PAUSE = 60.0
"""Seconds: if the Hub asks for a longer wait, the request fails at once."""
_UNNOTICED = 3.0
"""Seconds: longer waits are logged."""
_MOST_DIGITS = 12
_RATIO = 64
"""By this number the limit is divided for an answer that is compressed although that was not asked for."""
_log = logging.getLogger(__name__)
_limit: ContextVar[int | None] = ContextVar("limit", default=None)


@contextmanager
def reading_at_most(limit: int) -> Iterator[None]:
    """Limit the answers to the requests of this block to `limit` bytes. Longer ones raise ValueError.

    The session of huggingface_hub is shared by the process. From now on, it also raises HfHubHTTPError instead of
    waiting for longer than `LONGEST_PAUSE`.
    """
    hooks = get_session().event_hooks
    for name, hook in (("request", _ask_uncompressed), ("response", _check_response)):
        if hook not in hooks[name]:
            hooks[name].append(hook)
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)


def seconds_to_wait(headers: Mapping[str, str]) -> float:
    """Return the seconds that a response asks to wait, by `Retry-After` and `RateLimit`; 0 if it does not ask."""
    return max(_retry_after(headers.get("Retry-After", "")), _rate_limit(headers))


def _retry_after(value: str) -> float:
    """Read `Retry-After`: seconds, or the date of HTTP; 0 for any other value."""
    if value.strip().isdecimal():
        return float(value.strip()[:_MOST_DIGITS])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _rate_limit(headers: Mapping[str, str]) -> float:
    """Read `RateLimit` (`"api";r=0;t=55`), or its older forms (`remaining=0, reset=55`, `RateLimit-Reset: 55`)."""
    text = headers.get("RateLimit", "")
    for name in ("Remaining", "Reset"):
        text += f";{name.lower()}={headers.get(f'RateLimit-{name}', '')}"
    found = (re.search(rf"\b(?:{key})=(\d{{1,{_MOST_DIGITS}}})", text) for key in ("r|remaining", "t|reset"))
    left, reset = found
    if reset is None or (left is not None and int(left[1])):
        return 0.0
    return float(reset[1])


def _ask_uncompressed(request: httpx2.Request) -> None:
    if _limit.get() is not None:
        request.headers["Accept-Encoding"] = "identity"


def _check_response(response: httpx2.Response) -> None:
    wait = seconds_to_wait(response.headers) if response.status_code in PASSING else 0.0
    if wait > LONGEST_PAUSE:
        raise HfHubHTTPError("the Hub asks for a long wait", response=response)
    if wait > _UNNOTICED:
        _log.warning(
            "the Hub responded with status %d and asks to wait for %.0f s", response.status_code, wait
        )
    if (limit := _limit.get()) is not None and isinstance(response.stream, httpx2.SyncByteStream):
        plain = response.headers.get("Content-Encoding", "identity") == "identity"
        response.stream = _Bounded(response.stream, limit if plain else limit // _RATIO)


class _Bounded(httpx2.SyncByteStream):
    """A body that raises ValueError after `limit` bytes."""

    def __init__(self, stream: httpx2.SyncByteStream, limit: int) -> None:
        self._stream, self._limit = stream, limit

    def __iter__(self) -> Iterator[bytes]:
        read = 0
        for chunk in self._stream:
            read += len(chunk)
            if read > self._limit:
                raise ValueError(f"an answer has more than {self._limit} bytes")
            yield chunk

    def close(self) -> None:
        """Close the body."""
        self._stream.close()
