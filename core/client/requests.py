"""Requests to a service, and the grouping of texts into requests."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import quote

from onetrunk.core.errors import UsageError
from onetrunk.core.tasks.prediction import check_strings

JSON = "application/json"
LINES = "application/x-ndjson"

CHUNK = 512
"""Default number of texts in one request of a stream. A smaller number takes less memory."""

_CHUNK_BYTES = 48 * 1024
"""Maximum size in bytes of a request of a stream with more than one text.

A client reads the response only after it has sent the whole request, and a service whose results are not read stops
reading the request. A request of this size fits into the socket buffers, so that neither waits for the other.
"""

_LOAD_SECONDS = 600.0  # the service may have to download the adapter from the Hub first
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")


@dataclass(frozen=True, slots=True)
class ApiCall:
    """A request to the service.

    path: appended to the base URL.
    sends: media type of `body`.
    accepts: media type of the response; None for a response without a body.
    seconds: read timeout in seconds; None for the timeout of the client.
    repeatable: whether the request can be sent again after a failed connection.
    """

    method: str
    path: str
    body: bytes = b""
    sends: str = JSON
    accepts: str | None = JSON
    seconds: float | None = None
    repeatable: bool = True


STATUS = ApiCall("GET", "/v1/status")
ADAPTERS = ApiCall("GET", "/v1/adapters")


Input: TypeAlias = str | Sequence[str]
"""A text, or a text as a list of its words."""


def check_inputs(texts: Sequence[Input], adapters: Sequence[str]) -> None:
    """Raise TypeError unless `texts` is a list of strings or lists of words, and `adapters` a list of strings."""
    plain: Any = texts
    if isinstance(texts, Collection) and not isinstance(texts, str):
        plain = [each for each in texts if not isinstance(each, list | tuple)]
        for words in texts:
            check_strings(words if isinstance(words, list | tuple) else (), ())
    check_strings(plain, adapters)


def text_of(given: Input) -> str:
    """Return a text, or the text of a list of words, to which the offsets in its predictions refer."""
    return given if isinstance(given, str) else " ".join(given)


def predict(texts: Sequence[Input], adapters: Sequence[str]) -> ApiCall:
    """Return the request that predicts `texts` in one response."""
    inputs = [_input(text, adapters) for text in texts]
    return ApiCall("POST", "/v1/predict", _encoded({"inputs": inputs}))


def adapter(name: str) -> ApiCall:
    """Return the request for the status of an adapter. Raises UsageError for an invalid name."""
    return ApiCall("GET", _path(name))


def load(name: str, ref: str) -> ApiCall:
    """Return the request to serve `ref` as `name`. Raises UsageError for an invalid name."""
    return ApiCall("PUT", _path(name), _encoded({"ref": ref}), seconds=_LOAD_SECONDS)


def unload(name: str) -> ApiCall:
    """Return the request to unload `name`. Raises UsageError for an invalid name."""
    return ApiCall("DELETE", _path(name), accepts=None, repeatable=False)  # a repeated request would get 404


@dataclass(frozen=True, slots=True)
class Chunk:
    """The texts of a stream that are sent in one request.

    first: index of the first text in the stream.
    lines: the encoded line of each text.
    """

    first: int
    texts: tuple[Input, ...]
    adapters: tuple[str, ...]
    lines: tuple[bytes, ...]

    @property
    def call(self) -> ApiCall:
        """The request that sends these texts."""
        return ApiCall("POST", "/v1/predict/stream", b"".join(self.lines), LINES, LINES)

    def after(self, count: int) -> Chunk:
        """Return the chunk without its first `count` texts."""
        return Chunk(self.first + count, self.texts[count:], self.adapters, self.lines[count:])


class Chunks:
    """Groups the texts of a stream into chunks. most: maximum number of texts per chunk."""

    def __init__(self, adapters: Sequence[str], most: int) -> None:
        if isinstance(adapters, str):
            raise TypeError("adapters must be a list of strings")
        if most < 1:
            raise UsageError(f"chunk is {most}; expected at least 1 text")
        self._adapters, self._most = tuple(adapters), most
        self._first = self._bytes = 0
        self._texts: list[Input] = []
        self._lines: list[bytes] = []

    def add(self, text: Input) -> Chunk | None:
        """Add a text; return a chunk if one is complete, else None. Raises TypeError for another type."""
        words = text if isinstance(text, list | tuple) else [text]
        if not all(isinstance(word, str) for word in words):
            raise TypeError("texts must be strings")
        line = _encoded(_input(text, self._adapters)) + b"\n"
        full = self.rest() if self._bytes + len(line) > _CHUNK_BYTES else None
        self._texts.append(text)
        self._lines.append(line)
        self._bytes += len(line)
        # With most = 1, no text was collected before this one, so `full` is None and cannot be lost.
        return self.rest() if len(self._texts) == self._most else full

    def rest(self) -> Chunk | None:
        """Return the collected texts as a chunk, or None if there are none, and start a new chunk."""
        if not self._texts:
            return None
        chunk = Chunk(self._first, tuple(self._texts), self._adapters, tuple(self._lines))
        self._first += len(self._texts)
        self._texts, self._lines, self._bytes = [], [], 0
        return chunk


def _input(text: Input, adapters: Sequence[str]) -> dict[str, Any]:
    given = {"text": text} if isinstance(text, str) else {"words": list(text)}
    return {**given, "adapters": list(adapters)}


def _path(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not the name of a served adapter; expected letters, digits and . _ @ -"
        )
    return f"/v1/adapters/{quote(name)}"


def _encoded(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        near = error.object[max(0, error.start - 20) : error.end]
        raise UsageError(f"the text has a lone surrogate, which cannot be sent: …{near!r}") from error
