"""The client of the Hugging Face Hub, and the mapping of its exceptions to RemoteError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from typing import Any

from onetrunk.adapters.errors import RemoteConflict, RemoteError, RemoteNotFound, RemoteUnreachable

MAX_ANSWER = 2**26
"""The longest answer of the Hub's API that is read, in bytes."""


def hub_api(token: str | None) -> Any:
    """Return the client. token: None for the token of the environment or of `hf auth login`."""
    from huggingface_hub import HfApi

    return HfApi(token=token, library_name="onetrunk")


_SHAPE = (TypeError, LookupError, AttributeError)
"""What the client raises if an answer is JSON of another shape than it expects."""


@contextmanager
def hub_errors(place: object, token: str | None, limit: int = MAX_ANSWER) -> Iterator[None]:
    """Turn every exception of the client into a RemoteError about `place`.

    token: removed from messages.
    limit: the most bytes of an answer.
    """
    import httpx2
    from huggingface_hub.errors import EntryNotFoundError

    from onetrunk.adapters.remotes.hub_limits import reading_at_most

    try:
        with reading_at_most(limit):
            yield
    except (
        httpx2.HTTPError,
        httpx2.StreamError,
        EntryNotFoundError,
        OSError,
        ValueError,
        RuntimeError,
        *_SHAPE,
    ) as error:
        raise _remote_error(place, error, token) from error


def _remote_error(place: object, error: Exception, token: str | None) -> RemoteError:
    import httpx2
    from huggingface_hub import errors

    if isinstance(error, errors.RevisionNotFoundError):
        return RemoteNotFound(place, "there is no such revision")
    if isinstance(error, errors.LocalEntryNotFoundError):
        if isinstance(error.__cause__, errors.HfHubHTTPError):
            found = _by_status(place, error.__cause__, token)
            if isinstance(found, RemoteUnreachable):
                found.final = True  # the client has repeated the request
            return found
        why = "the Hub cannot be reached, and the file is not in the client's cache; try later"
        return _unreachable(place, why, error)
    if isinstance(error, errors.EntryNotFoundError):
        return RemoteNotFound(place, "the repo lacks a file")
    if isinstance(error, errors.RepositoryNotFoundError):  # also for gated repos
        why = "there is no such repo, or the token may not see it; check the name, and the token (`hf auth login`)"
        return RemoteNotFound(place, why)
    if isinstance(error, errors.HFValidationError):
        return RemoteError(place, _first(error, token))
    if isinstance(error, errors.HfHubHTTPError):
        return _by_status(place, error, token)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return RemoteUnreachable(place, "offline mode is on (HF_HUB_OFFLINE)")
    if isinstance(error, httpx2.HTTPError | httpx2.StreamError | ConnectionError | TimeoutError):
        return RemoteUnreachable(place, f"the connection to {endpoint()} failed: {_first(error, token)}")
    if isinstance(error, UnicodeEncodeError):
        return RemoteError(place, "the token has characters that are not allowed in a token; check HF_TOKEN")
    if isinstance(error, RuntimeError) and error.__cause__ is not None:
        # The upload of a file, which comes before the commit, failed: it can be repeated.
        return _unreachable(place, f"{_first(error, token)} ({_first(error.__cause__, token)})", error)
    if isinstance(error, (*_SHAPE, JSONDecodeError)):
        why = (
            f"an answer of {endpoint()} is not that of a Hub ({type(error).__name__}: {_first(error, token)})"
        )
        return RemoteError(place, f"{why}; check HF_ENDPOINT and the proxy, or try later")
    return RemoteError(place, _first(error, token))


def _unreachable(place: object, message: str, error: BaseException) -> RemoteUnreachable:
    """Return an error that is final if the client has already repeated the request, for up to half a minute."""
    from onetrunk.adapters.remotes.hub_limits import PASSING

    found = RemoteUnreachable(place, message)
    status = getattr(getattr(error.__cause__, "response", None), "status_code", None)
    found.final = status in PASSING
    return found


def _by_status(place: object, error: Any, token: str | None) -> RemoteError:
    from onetrunk.adapters.remotes.hub_limits import PASSING, seconds_to_wait

    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    reason = (_clean(str(error.server_message or ""), token)).rstrip(".!")
    said = f"the Hub responded with status {status}" + (f": {reason}" if reason else "")
    if status == 401:
        said = "the Hub rejects the token; check HF_TOKEN or --token, or use `hf auth login`"
    if status == 403:
        return RemoteError(place, f"{said}; use a token that may write there (`hf auth login`)")
    if status in (409, 412):
        return RemoteConflict(place, "another push was faster; nothing was changed, push again")
    if response is not None and status in PASSING:
        wait = seconds_to_wait(response.headers)
        passing = RemoteUnreachable(place, f"{said}; try again " + (f"in {wait:.0f} s" if wait else "later"))
        passing.wait = wait
        return passing
    return RemoteError(place, said)


def _first(error: BaseException, token: str | None) -> str:
    return _clean(str(error), token) or type(error).__name__


def _clean(text: str, token: str | None) -> str:
    """Return the first line of `text`, shortened, with tokens removed."""
    from huggingface_hub import get_token

    text = next((line.strip() for line in text.splitlines() if line.strip()), "")
    for secret in filter(None, (token, get_token())):  # a server or a proxy may echo it
        text = text.replace(secret, "…")
    return text[:300]


def offline() -> bool:
    """Tell whether the client is in offline mode (HF_HUB_OFFLINE)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def endpoint() -> str:
    """Return the URL of the Hub."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)
