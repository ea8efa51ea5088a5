"""The client of the Hugging Face Hub: how it is made, and its faults turned into ours in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from onetrunk.adapters.errors import RemoteConflict, RemoteError, RemoteNotFound, RemoteUnreachable

_PASSING = (408, 425, 429, 500, 502, 503, 504)


def hub_api(token: str | None) -> Any:
    """Return the client; without a token it uses that of the environment, or of `hf auth login`."""
    from huggingface_hub import HfApi

    return HfApi(token=token, library_name="onetrunk")


@contextmanager
def hub_errors(place: str, token: str | None) -> Iterator[None]:
    """Turn every fault of the client into one of ours."""
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except errors.RevisionNotFoundError as error:
        raise RemoteNotFound(place, "there is no such revision") from error
    except errors.LocalEntryNotFoundError as error:
        raise _unreachable(
            place, "the Hub cannot be reached, and the client's cache lacks the file; try later", error
        ) from error
    except errors.EntryNotFoundError as error:
        raise RemoteNotFound(place, "a file of it is missing") from error
    except errors.RepositoryNotFoundError as error:  # gated ones, too
        raise RemoteNotFound(
            place,
            "there is no such repo, or none that you may see; check the name, and the token (`hf auth login`)",
        ) from error
    except errors.HFValidationError as error:
        raise RemoteError(place, _first(error, token)) from error
    except errors.HfHubHTTPError as error:
        raise _by_status(place, error, token) from error
    except errors.OfflineModeIsEnabled as error:
        raise RemoteUnreachable(place, "offline mode is on (HF_HUB_OFFLINE)") from error
    except (httpx2.HTTPError, httpx2.StreamError, ConnectionError, TimeoutError) as error:
        raise RemoteUnreachable(
            place, f"the connection to {endpoint()} failed: {_first(error, token)}"
        ) from error
    except UnicodeEncodeError as error:
        raise RemoteError(place, "the token has letters that no token has; check HF_TOKEN") from error
    except RuntimeError as error:
        if error.__cause__ is None:
            raise RemoteError(place, _first(error, token)) from error
        # Of the upload of a file, before the commit: it may have been damaged on its way, and can be repeated.
        raise _unreachable(
            place, f"{_first(error, token)} ({_first(error.__cause__, token)})", error
        ) from error
    except (ValueError, OSError) as error:  # of the uploads, and of what a server answers
        raise RemoteError(place, _first(error, token)) from error


def _unreachable(place: str, message: str, error: BaseException) -> RemoteUnreachable:
    """Return the error for what the client raises where it has repeated certain answers, for half a minute."""
    found = RemoteUnreachable(place, message)
    status = getattr(getattr(error.__cause__, "response", None), "status_code", None)
    found.final = status in _PASSING
    return found


def _by_status(place: str, error: Any, token: str | None) -> RemoteError:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    reason = (_clean(str(error.server_message or ""), token)).rstrip(".!")
    said = f"the Hub answers {status}" + (f": {reason}" if reason else "")
    if status == 401:
        return RemoteError(
            place, "the Hub does not know this token; check HF_TOKEN or --token, or `hf auth login`"
        )
    if status == 403:
        return RemoteError(place, f"{said}; use a token that may write there (`hf auth login`)")
    if status in (409, 412):
        return RemoteConflict(
            place, "somebody else has published there meanwhile; nothing was changed, push again"
        )
    if status in _PASSING:
        passing = RemoteUnreachable(place, f"{said}; try later")
        after = str(response.headers.get("Retry-After", "")) if response is not None else ""
        passing.wait = float(after) if after.isdecimal() else 0.0
        return passing
    return RemoteError(place, said)


def _first(error: BaseException, token: str | None) -> str:
    """Return the first line of what the client says, short."""
    return _clean(str(error), token) or type(error).__name__


def _clean(text: str, token: str | None) -> str:
    """Return the first line of `text`, short, and never with a token in it."""
    from huggingface_hub import get_token

    text = next((line.strip() for line in text.splitlines() if line.strip()), "")
    for secret in filter(None, (token, get_token())):  # a server, or a proxy, may say it back
        text = text.replace(secret, "…")
    return text[:300]


def offline() -> bool:
    """Tell whether the client is told to ask nothing of the network."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def endpoint() -> str:
    """Return the URL of the Hub."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)
