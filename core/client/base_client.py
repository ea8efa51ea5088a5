"""`BaseClient`: what both clients share, namely URL, token, timeouts, and the errors of a connection."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import httpx2

from onetrunk.core.client.errors import AnswerError, ClientError, ServiceUnreachable
from onetrunk.core.client.requests import ApiCall
from onetrunk.core.client.responses import refusal
from onetrunk.core.client.retry import PATIENT, Retries
from onetrunk.core.errors import UsageError

SECONDS = 60.0
"""Default read timeout in seconds."""

_CONNECT_SECONDS = 10.0
_LOOPBACK = ("all://localhost", "all://127.0.0.1", "all://[::1]")
_MOST_TOKEN = 1024  # characters

_HttpClientT = TypeVar("_HttpClientT", httpx2.Client, httpx2.AsyncClient)


class BaseClient(Generic[_HttpClientT]):
    """The base class of `Client` and `AsyncClient`, which takes their arguments; it sends nothing itself.

    url: base URL of the service, without a slash at the end.
    Raises UsageError for an invalid URL, token or timeout.
    """

    _http_class: type[_HttpClientT]

    def __init__(
        self,
        url: str,
        token: str | Path | None = None,
        *,
        timeout: float = SECONDS,
        retries: Retries = PATIENT,
    ) -> None:
        if not timeout > 0:
            raise UsageError(f"timeout is {timeout}; expected more than 0 seconds")
        self.url = _checked(url)
        self._token = _read(token) if isinstance(token, Path) else token
        if self._token is not None:
            _check_token(self._token, f"the file {token}" if isinstance(token, Path) else "the token")
        self._seconds, self._retries = timeout, retries
        plain = self.url.startswith("http:")
        self._http: _HttpClientT = self._http_class(
            # Plain HTTP needs no certificates, and loading those of the system takes longer than a request.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else True,
            headers={} if self._token is None else {"Authorization": f"Bearer {self._token}"},
            follow_redirects=False,  # the token would be sent to the new address, too
            mounts=dict.fromkeys(_LOOPBACK),  # a proxy would connect to its own loopback interface
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _request(self, call: ApiCall) -> httpx2.Request:
        headers = {"Accept": call.accepts or "*/*"}
        if call.body:
            headers["Content-Type"] = call.sends
        seconds = call.seconds or self._seconds
        return self._http.build_request(
            call.method,
            self.url + call.path,
            content=call.body or None,
            headers=headers,
            timeout=httpx2.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
        )

    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> ClientError:
        """Return the error for an unsuccessful response. body: empty if it is not a problem document."""
        return refusal(self.url, status, headers, self._blanked(body.decode("utf-8", "replace")))

    def _failure(self, call: ApiCall, error: httpx2.HTTPError) -> ClientError:
        """Return the error for a request that got no response."""
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            why = f"cannot be reached ({self._first_line(error)})"
            return ServiceUnreachable(self.url, f"{why}; check the URL and whether the service is running")
        if isinstance(error, httpx2.TimeoutException):
            return ServiceUnreachable(self.url, f"no data for {call.seconds or self._seconds:g} s")
        return ServiceUnreachable(self.url, f"the connection broke ({self._first_line(error)})")

    @contextmanager
    def _reading(self, call: ApiCall, so_far: Callable[[], str]) -> Iterator[None]:
        """Turn errors while a response is read into ClientError.

        so_far: returns how much has been read, such as `after 2 of 3 texts`.
        """
        try:
            yield
        except httpx2.TimeoutException as error:
            raise self._failure(call, error) from error
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            why = f"the response was cut off {so_far()} ({self._first_line(error)})"
            raise AnswerError(self.url, why) from error

    def _first_line(self, error: Exception) -> str:
        lines = self._blanked(str(error)).splitlines()
        return lines[0][:300] if lines else type(error).__name__

    def _blanked(self, text: str) -> str:
        """Return `text` with the token replaced by "…", because a response could repeat the token."""
        return text if self._token is None else text.replace(self._token, "…")


def _checked(url: str) -> str:
    """Return `url` without a trailing slash. Raises UsageError if it is not the URL of a service."""
    expected = "expected http://HOST:PORT or https://HOST"
    try:
        parts = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError) as error:
        raise UsageError(f"the URL of the service is not valid ({error}); {expected}") from error
    if parts.userinfo:
        raise UsageError(f"the URL of {parts.host} contains a user name or password; give a token instead")
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
        why = getattr(error, "strerror", None) or "it is not text"
        raise UsageError(f"the file {file} with the token cannot be read ({why})") from error


def _check_token(token: str, name: str) -> None:
    """Raise UsageError for a token that cannot be sent in a header; the message does not show it."""
    if not token or not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageError(
            f"{name} is not a valid token; expected letters, digits and punctuation, without spaces"
        )
