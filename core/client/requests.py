"""What is sent to a service: one value a request, and texts gathered into requests."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from onetrunk.core.errors import UsageError

JSON = "application/json"
LINES = "application/x-ndjson"

CHUNK = 512
"""Texts of a stream that go into one request, by default; bounds what is held."""

_CHUNK_BYTES = 48 * 1024
"""Bytes of a request of several texts.

HTTP/1.1 reads no answer before the request has left, while a service with many answers to deliver reads no further.
What fits into the buffers between them leaves in any case.
"""

_LOAD_SECONDS = 600.0  # an adapter may have to come from the Hub first
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")


@dataclass(frozen=True, slots=True)
class ApiCall:
    """A request.

    path: below the URL of the service. sends, accepts: the media types of body and answer; None for no answer.
    seconds: how long no byte may come; None as the client is told. repeatable: as for `Tries`.
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


def predict(texts: Sequence[str], adapters: Sequence[str]) -> ApiCall:
    """Return the request for all answers at once."""
    inputs = [{"text": text, "adapters": list(adapters)} for text in texts]
    return ApiCall("POST", "/v1/predict", _encoded({"inputs": inputs}))


def adapter(name: str) -> ApiCall:
    """Return the request for what is known of an adapter. Raises UsageError for what is no name."""
    return ApiCall("GET", _path(name))


def load(name: str, ref: str) -> ApiCall:
    """Return the request to serve `ref` as `name`. Raises UsageError for what is no name."""
    return ApiCall("PUT", _path(name), _encoded({"ref": ref}), seconds=_LOAD_SECONDS)


def unload(name: str) -> ApiCall:
    """Return the request to end `name`. Raises UsageError for what is no name."""
    return ApiCall("DELETE", _path(name), accepts=None, repeatable=False)  # the second would find nothing


@dataclass(frozen=True, slots=True)
class Chunk:
    """Texts of a stream that go into one request, and the line for each. first: the number of the first, from 0."""

    first: int
    texts: tuple[str, ...]
    adapters: tuple[str, ...]
    lines: tuple[bytes, ...]

    @property
    def call(self) -> ApiCall:
        """The request."""
        return ApiCall("POST", "/v1/predict/stream", b"".join(self.lines), LINES, LINES)

    def after(self, count: int) -> Chunk:
        """Return what remains when `count` texts are answered."""
        return Chunk(self.first + count, self.texts[count:], self.adapters, self.lines[count:])


class Chunks:
    """Gathers the texts of a stream. most: texts in a request."""

    def __init__(self, adapters: Sequence[str], most: int) -> None:
        if isinstance(adapters, str):
            raise TypeError("adapters must be a list of strings")
        if most < 1:
            raise UsageError(f"chunk is {most}; expected at least 1")
        self._adapters, self._most = tuple(adapters), most
        self._first = self._bytes = 0
        self._texts: list[str] = []
        self._lines: list[bytes] = []

    def add(self, text: str) -> Chunk | None:
        """Take a text; return those that are now to be sent, if any. Raises TypeError for what is no text."""
        if not isinstance(text, str):
            raise TypeError("texts must be strings")
        line = _encoded({"text": text, "adapters": self._adapters}) + b"\n"
        full = self.rest() if self._bytes + len(line) > _CHUNK_BYTES else None
        self._texts.append(text)
        self._lines.append(line)
        self._bytes += len(line)
        # Never both: where one text is the most, nothing is gathered before it.
        return self.rest() if len(self._texts) == self._most else full

    def rest(self) -> Chunk | None:
        """Return what has been gathered, if anything, and begin anew."""
        if not self._texts:
            return None
        chunk = Chunk(self._first, tuple(self._texts), self._adapters, tuple(self._lines))
        self._first += len(self._texts)
        self._texts, self._lines, self._bytes = [], [], 0
        return chunk


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
        raise UsageError(f"half a surrogate pair is no character, and cannot be sent: …{near!r}") from error
