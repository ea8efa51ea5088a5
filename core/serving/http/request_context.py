"""The context of one HTTP request, and the JSON responses that handlers return."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope

from onetrunk.core.serving.http.connection import CONNECTION, Connection
from onetrunk.core.serving.http.problems import MEDIA_TYPE, Problem
from onetrunk.core.tasks import JSONObject

JSON_TYPE = "application/json"
OTHER = "other"
"""The route of a request whose path is unknown."""
REQUEST_ID = "onetrunk.id"
"""Key of the ASGI scope: the request's id, if something in front of the application has set it."""


class RequestContext:
    """One request while it is answered.

    id: 16 hex digits, unless something in front of the application has set another id.
    began: start time, on the clock of `time.perf_counter`.
    headers: by name in lower case; of a repeated header, the last value.
    route: path of the route as in the OpenAPI document, `other` if the path is unknown.
    params: values of the names in the route's path.
    inputs: number of texts; None for a request without texts.
    token: name of the request's token, once it was checked; None without tokens.
    disconnected: done as soon as the client has disconnected, if `has_connection`.
    has_connection: whether the server runs each connection as a `Connection`, which completes `disconnected`.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.id: str = scope.get(REQUEST_ID) or new_id()
        self.began = time.perf_counter()
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.route = OTHER
        self.params: Mapping[str, str] = {}
        self.inputs: int | None = None
        self.token: str | None = None
        self._receive = receive
        self._unread = b"content-length" in self.headers or b"transfer-encoding" in self.headers
        self._connection: Connection | None = scope.get("state", {}).get(CONNECTION)
        self.has_connection = self._connection is not None
        if self._connection is None:
            self.disconnected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        else:
            self.disconnected = self._connection.disconnected
            self._connection.request_began()

    def header(self, name: bytes) -> str:
        """Return the value of a header, "" if it is missing. name: in lower case."""
        return self.headers.get(name, b"").decode("latin-1")

    async def receive(self) -> Any:
        """Return the next ASGI message: a part of the body, or `http.disconnect`."""
        if self._connection is None or not self._unread:
            return await self._receive()
        self._connection.body_awaited()
        try:
            message = await self._receive()
        finally:
            self._connection.body_taken()
        self._unread = message.get("more_body", False)
        return message

    def end(self) -> None:
        """Report to the connection that no more of this request is read or answered."""
        if self._connection is not None:
            self._connection.request_ended(body_complete=not self._unread)


def new_id() -> str:
    """Return a random request id: 16 hex digits."""
    return f"{random.getrandbits(64):016x}"


def encode_json(value: object) -> bytes:
    """Return `value` as compact JSON in UTF-8.

    Raises ValueError for NaN, infinity and incomplete surrogate pairs, TypeError for types that JSON does not have.
    """
    return _ENCODER.encode(value).encode("utf-8")


def json_response(value: JSONObject, status: int = 200) -> Response:
    """Return a response with `value` as its JSON body."""
    return Response(encode_json(value), status, media_type=JSON_TYPE)


def problem_response(problem: Problem, request_id: str, **members: object) -> Response:
    """Return the response of a problem. members: further keys of its object."""
    body = encode_json(problem.to_json(**members, instance=request_id))
    return Response(body, problem.status, dict(problem.headers), MEDIA_TYPE)


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
