"""Errors as RFC 9457 problem details: one table of all that can be answered other than what was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from onetrunk.adapters.errors import RemoteConflict, RemoteNotFound, RemoteUnreachable
from onetrunk.core.errors import (
    ArtifactError,
    OneTrunkError,
    ReferenceSyntaxError,
    StoreBusy,
    StoreError,
    UnknownAdapter,
)
from onetrunk.core.serving.engine.errors import (
    AdapterUnavailable,
    AnswerFailed,
    Busy,
    ExitRefused,
    OverTime,
    QueueFull,
    ServingError,
    ShuttingDown,
    TextTooLong,
    TooManyAdapters,
    TooManyTokens,
    UnknownName,
)
from onetrunk.core.tasks import JSONObject

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
"""When to try again what failed outside of this service."""
MAX_NAME_CHARACTERS = 100
"""Characters of an adapter's name."""
_SHOWN = 100
"""Names that a problem lists at most."""

PROBLEMS: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "malformed-json": (400, "Malformed JSON"),
        "unauthorized": (401, "Unauthorized"),
        "forbidden": (403, "Forbidden"),
        "unknown-adapter": (404, "Unknown adapter"),
        "unknown-reference": (404, "Unknown reference"),
        "not-found": (404, "Not found"),
        "method-not-allowed": (405, "Method not allowed"),
        "body-too-slow": (408, "Body too slow"),
        "body-too-large": (413, "Body too large"),
        "too-many-inputs": (413, "Too many inputs"),
        "text-too-long": (413, "Text too long"),
        "too-many-adapters": (413, "Too many adapters"),
        "unsupported-media-type": (415, "Unsupported media type"),
        "invalid-request": (422, "Invalid request"),
        "adapter-rejected": (422, "Adapter rejected"),
        "queue-full": (429, "Queue full"),
        "headers-too-large": (431, "Headers too large"),
        "internal": (500, "Internal error"),
        "adapter-unavailable": (503, "Adapter unavailable"),
        "remote-unavailable": (503, "Remote unavailable"),
        "shutting-down": (503, "Shutting down"),
        "timeout": (503, "Timeout"),
    }
)
"""Status and title of each kind of problem; its type is `/problems/KIND`."""

_OF_SERVING = {
    QueueFull: "queue-full",
    OverTime: "timeout",
    ShuttingDown: "shutting-down",
    UnknownName: "unknown-adapter",
    TextTooLong: "text-too-long",
    TooManyTokens: "text-too-long",
    TooManyAdapters: "too-many-adapters",
    AdapterUnavailable: "adapter-unavailable",
    AnswerFailed: "internal",
    ExitRefused: "internal",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What goes out in place of an answer. members: further keys of the object; headers: of the response."""

    kind: str
    detail: str
    members: JSONObject = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return PROBLEMS[self.kind][0]

    def to_json(self, **more: object) -> JSONObject:
        """Return the problem as an object, with `more` keys."""
        status, title = PROBLEMS[self.kind]
        base = {"type": f"/problems/{self.kind}", "title": title, "status": status, "detail": self.detail}
        return {**base, **self.members, **more}


class Refusal(ServingError):
    """A request, or an input of it, that is refused before the engine hears of it."""

    def __init__(
        self, kind: str, detail: str, headers: Mapping[str, str] | None = None, **members: object
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(kind, detail, members, headers or {})


def problem_of(error: Exception) -> Problem:
    """Return what an error is to a client; one that nobody expected tells nothing of itself."""
    if isinstance(error, Refusal):
        return error.problem
    if isinstance(error, ServingError):
        return _of_serving(error)
    if isinstance(error, UnknownAdapter):  # its message has the store's path
        known = f"known: {', '.join(error.known) or 'none'}"
        return Problem("unknown-reference", f"no adapter {error.reference!r} in the store; {known}")
    if isinstance(error, RemoteNotFound):
        return Problem("unknown-reference", str(error))
    if isinstance(error, StoreBusy):  # all messages of a store have its path, and those of an artifact theirs
        return _later("remote-unavailable", "the store is locked by another process; try again")
    if isinstance(error, StoreError):
        return Problem(
            "adapter-rejected", "the store cannot take it in or hand it out; the service's log says why"
        )
    if isinstance(error, ArtifactError):
        return Problem("adapter-rejected", f"the adapter is not sound: {error.message}")
    if isinstance(error, RemoteUnreachable | RemoteConflict):
        return _later("remote-unavailable", str(error))
    if isinstance(error, ReferenceSyntaxError):
        return Problem("invalid-request", str(error))
    if isinstance(error, OneTrunkError):
        return Problem("adapter-rejected", str(error))
    return Problem("internal", "the service failed; its log says why")


def _later(kind: str, detail: str, **members: object) -> Problem:
    return Problem(kind, detail, members, {"Retry-After": str(RETRY_SECONDS)})


def _of_serving(error: ServingError) -> Problem:
    if isinstance(error, AdapterUnavailable):  # its reason may have the store's path
        detail = f"{error.version} cannot be brought back; try again, or load it again"
        return _later("adapter-unavailable", detail, version=error.version)
    members: JSONObject = {}
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, Busy) else {}
    if isinstance(error, UnknownName):
        members = {"adapter": error.name, "known": list(error.known[:_SHOWN])}
    elif isinstance(error, TooManyTokens):
        members = {"tokens": error.tokens, "most": error.most}
    elif isinstance(error, TextTooLong):
        members = {"characters": error.characters, "most": error.most}
    elif isinstance(error, TooManyAdapters):
        members = {"count": error.count, "most": error.most}
    elif isinstance(error, AnswerFailed | ExitRefused):
        members = {"version": error.version}
    return Problem(_OF_SERVING.get(type(error), "internal"), str(error), members, headers)
