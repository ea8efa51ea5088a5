"""What both clients share: where the service is, the token, and what a failed connection is told as."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from onetrunk.core.client.errors import AnswerError, ClientError, ServiceUnreachable
from onetrunk.core.client.requests import ApiCall
from onetrunk.core.client.responses import refusal
from onetrunk.core.client.retry import Retries, Tries
from onetrunk.core.errors import UsageError

SECONDS = 60.0
"""How long no byte may come, by default."""

_CONNECT_SECONDS = 10.0
_LOOPBACK = ("all://localhost", "all://127.0.0.1", "all://[::1]")
_MOST_TOKEN = 1024


class Transport:
    """A service as a client sees it.

    url: as users give it. token: the token, or the path of a file with it. seconds: how long no byte may come.
    """

    def __init__(self, url: str, token: str | Path | None, seconds: float, retries: Retries) -> None:
        if not seconds > 0:
            raise UsageError(f"timeout is {seconds}; expected a number of seconds")
        self.url = _checked(url)
        self._token = _read(token) if isinstance(token, Path) else token
        if self._token is not None:
            _check_token(self._token, f"the file {token}" if isinstance(token, Path) else "the token")
        self._seconds, self._retries = seconds, retries

    def settings(self) -> dict[str, Any]:
        """Return what a client of httpx2 is made with."""
        plain = self.url.startswith("http:")
        return {
            # Without TLS nothing is to be trusted; to read what a machine trusts takes longer than an answer.
            "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else True,
            "headers": {} if self._token is None else {"Authorization": f"Bearer {self._token}"},
            "follow_redirects": False,  # to wherever: the token would go there, too
            "mounts": dict.fromkeys(_LOOPBACK),  # never by a proxy: it would ask itself
        }

    def request(self, call: ApiCall) -> dict[str, Any]:
        """Return what a request of httpx2 is made with."""
        headers = {"Accept": call.accepts or "*/*"}
        if call.body:
            headers["Content-Type"] = call.sends
        seconds = call.seconds or self._seconds
        return {
            "method": call.method,
            "url": self.url + call.path,
            "content": call.body or None,
            "headers": headers,
            "timeout": httpx2.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
        }

    def tries(self, call: ApiCall) -> Tries:
        """Return the tries that `call` has."""
        return Tries(self._retries, call.repeatable)

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> ClientError:
        """Return the error for an answer that is not the wanted one."""
        return refusal(self.url, status, headers, self._blanked(body.decode("utf-8", "replace")))

    def failure(self, call: ApiCall, error: httpx2.HTTPError) -> ClientError:
        """Return the error for a request that got no answer."""
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            why = f"cannot be reached ({self._first_line(error)})"
            return ServiceUnreachable(self.url, f"{why}; check the URL, and that the service runs")
        if isinstance(error, httpx2.TimeoutException):
            return ServiceUnreachable(self.url, f"sends nothing for {call.seconds or self._seconds:g} s")
        return ServiceUnreachable(self.url, f"the connection broke ({self._first_line(error)})")

    @contextmanager
    def reading(self, call: ApiCall, so_far: Callable[[], str]) -> Iterator[None]:
        """Turn the failures of an answer that has begun into ours. so_far: says where it stands."""
        try:
            yield
        except httpx2.TimeoutException as error:
            raise self.failure(call, error) from error
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            why = f"the answer breaks off {so_far()} ({self._first_line(error)})"
            raise AnswerError(self.url, why) from error

    def _first_line(self, error: Exception) -> str:
        lines = self._blanked(str(error)).splitlines()
        return lines[0][:300] if lines else type(error).__name__

    def _blanked(self, text: str) -> str:
        """Return `text` without the token, which a service may say back."""
        return text if self._token is None else text.replace(self._token, "…")


def _checked(url: str) -> str:
    """Return `url` without a slash at its end. Raises UsageError for what is no URL of a service."""
    expected = "expected http://HOST:PORT or https://HOST"
    try:
        parts = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError) as error:
        raise UsageError(f"this is no URL ({error}); {expected}") from error
    if parts.userinfo:
        raise UsageError(f"the URL of {parts.host} has a name or password in it; give a token instead")
    if parts.scheme not in ("http", "https") or not parts.host:
        raise UsageError(f"{url!r} is not the URL of a service; {expected}")
    if parts.query or parts.fragment:
        raise UsageError(f"{url!r} has more than host, port and path; {expected}")
    return url.rstrip("/")


def _read(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as lines:
            return lines.read(_MOST_TOKEN).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(f"the file {file} with the token cannot be read ({why})") from error


def _check_token(token: str, name: str) -> None:
    """Raise UsageError, without the token, for what no header can hold."""
    if not token or not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageError(f"{name} is no token; expected letters, digits and signs, without spaces")
