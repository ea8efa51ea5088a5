"""Problem details (RFC 9457): the table of all problems, and the problem of each exception."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onetrunk.adapters.errors import RemoteConflict, RemoteNotFound, RemoteUnreachable, first_few
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
    LoadTimeout,
    OverTime,
    QueueFull,
    ServingError,
    ShuttingDown,
    TextTooLong,
    TextTooSlow,
    TooManyAdapters,
    TooManyTokens,
    UnknownName,
)
from onetrunk.core.tasks import JSONObject

MEDIA_TYPE = "application/problem+json"
_RETRY_SECONDS = 5
"""`Retry-After` of a problem that this service did not cause, in seconds."""
MAX_NAME_CHARACTERS = 100
"""Maximum length of a served name."""
_MAX_KNOWN = 100
"""Maximum number of names in the member `known` of a problem."""

PROBLEMS: Mapping[str, tuple[int, str]] = {
    "malformed-json": (400, "Malformed JSON"),
    "malformed-request": (400, "Malformed request"),
    "unauthorized": (401, "Unauthorized"),
    "forbidden": (403, "Forbidden"),
    "unknown-adapter": (404, "Unknown adapter"),
    "unknown-reference": (404, "Unknown reference"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "Method not allowed"),
    "body-too-slow": (408, "Body too slow"),
    "body-too-large": (413, "Body too large"),
    "response-too-large": (413, "Response too large"),
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
    "load-timeout": (504, "Load timeout"),
}
"""HTTP status and title of each kind of problem. The `type` of a problem is `/problems/` and its kind."""

_OF_SERVING: Mapping[type[ServingError], tuple[str, tuple[str, ...]]] = {
    QueueFull: ("queue-full", ()),
    OverTime: ("timeout", ()),
    ShuttingDown: ("shutting-down", ()),
    TextTooLong: ("text-too-long", ("characters", "most")),
    TooManyTokens: ("text-too-long", ("tokens", "most")),
    TextTooSlow: ("text-too-long", ("tokens", "most")),
    TooManyAdapters: ("too-many-adapters", ("count", "most")),
    LoadTimeout: ("load-timeout", ("seconds",)),
    AnswerFailed: ("internal", ("version",)),
    ExitRefused: ("internal", ("version",)),
}
"""The kind of each error of the engine, and the attributes that become members of the problem."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Problem details, sent in place of an answer.

    kind: key of `PROBLEMS`.
    detail: what is wrong with this request or input, and what to do.
    members: further keys of the JSON object.
    headers: further headers of the response.
    """

    kind: str
    detail: str
    members: JSONObject = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return PROBLEMS[self.kind][0]

    def to_json(self, **more: object) -> JSONObject:
        """Return the problem as a JSON object. more: further keys."""
        status, title = PROBLEMS[self.kind]
        base = {"type": f"/problems/{self.kind}", "title": title, "status": status, "detail": self.detail}
        return {**base, **self.members, **more}


class Refusal(ServingError):
    """Raised when the HTTP layer refuses a request or an input. problem: the response to the client."""

    def __init__(
        self, kind: str, detail: str, headers: Mapping[str, str] | None = None, **members: object
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(kind, detail, members, headers or {})


def problem_of(error: Exception) -> Problem:
    """Return the problem that a client gets for an exception.

    Messages that contain a path of the store, and those of unexpected exceptions, are replaced.
    """
    if isinstance(error, Refusal):
        return error.problem
    if isinstance(error, ServingError):
        return _serving_problem(error)
    if isinstance(error, UnknownAdapter):
        known = f"known: {first_few(error.known, 20) or 'none'}"
        return Problem("unknown-reference", f"no adapter {error.reference!r} in the store; {known}")
    if isinstance(error, RemoteNotFound):
        return Problem("unknown-reference", str(error))
    if isinstance(error, StoreBusy):
        return _retry_later("remote-unavailable", "another process has locked the store; try again")
    if isinstance(error, StoreError):
        return Problem(
            "adapter-rejected",
            "the store failed to read or write the adapter; the log of the service says why",
        )
    if isinstance(error, ArtifactError):
        return Problem("adapter-rejected", f"the adapter failed its checks: {error.message}")
    if isinstance(error, RemoteUnreachable | RemoteConflict):
        return _retry_later("remote-unavailable", str(error))
    if isinstance(error, ReferenceSyntaxError):
        return Problem("invalid-request", str(error))
    if isinstance(error, OneTrunkError):
        return Problem("adapter-rejected", str(error))
    return Problem("internal", "the service failed; its log has the error under the id of this request")


def _retry_later(kind: str, detail: str, **members: object) -> Problem:
    return Problem(kind, detail, members, {"Retry-After": str(_RETRY_SECONDS)})


def _serving_problem(error: ServingError) -> Problem:
    if isinstance(error, AdapterUnavailable):
        detail = f"{error.version} was evicted and cannot be reloaded from the store; load it again"
        return _retry_later("adapter-unavailable", detail, version=error.version)
    if isinstance(error, UnknownName):
        members = {"adapter": error.name, "known": list(error.known[:_MAX_KNOWN])}
        return Problem("unknown-adapter", str(error), members)
    kind, attributes = _OF_SERVING.get(type(error), ("internal", ()))
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, Busy) else {}
    return Problem(kind, str(error), {name: getattr(error, name) for name in attributes}, headers)
