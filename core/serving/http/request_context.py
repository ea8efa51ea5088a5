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

from onetrunk.core.serving.http.auth import NO_RIGHTS, Grant
from onetrunk.core.serving.http.connection import CONNECTION, Connection
from onetrunk.core.serving.http.problems import MEDIA_TYPE, Problem
from onetrunk.core.tasks import JSONObject

JSON_TYPE = "application/json"
REQUEST_ID = "onetrunk.id"
"""Key of the ASGI scope: the request's id, if an outer ASGI application has set it."""


class RequestContext:
    """One request while it is answered.

    id: 16 hex digits, unless an outer ASGI application has put another id under `REQUEST_ID` into the scope.
    began: start time, on the clock of `time.perf_counter`.
    headers: by name in lower case; of a repeated header, the last value.
    route: path of the route as in the OpenAPI document, `other` if the path is unknown.
    params: values of the names in the route's path.
    grant: the rights of the request's token, once the token was checked.
    inputs: number of texts; None for a request without texts.
    status: HTTP status of the response; 0 before the response has begun.
    has_connection: whether the server runs each connection as a `Connection`. Ray's server does not.
    disconnected: done once the client has disconnected. Without a `Connection`, only `receive` notices this.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.id: str = scope.get(REQUEST_ID) or new_id()
        self.began = time.perf_counter()
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.route = "other"
        self.params: Mapping[str, str] = {}
        self.grant: Grant = NO_RIGHTS
        self.inputs: int | None = None
        self.status = 0
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
        if self._connection is None:
            message = await self._receive()
            if message["type"] == "http.disconnect" and not self.disconnected.done():
                self.disconnected.set_result(None)
            return message
        if not self._unread:
            return await self._receive()
        self._connection.body_awaited()
        try:
            message = await self._receive()
        finally:
            self._connection.body_taken()
        self._unread = message.get("more_body", False)
        return message

    def end(self) -> None:
        """Report to the connection that the request has ended: nothing more is read or sent."""
        if self._connection is not None:
            self._connection.request_ended(body_complete=not self._unread)


def new_id() -> str:
    """Return a random request id of 16 hex digits."""
    return f"{random.getrandbits(64):016x}"


def encode_json(value: object) -> bytes:
    """Return `value` as compact JSON in UTF-8.

    Raises ValueError for NaN, infinity and lone surrogates, TypeError for types that JSON does not have.
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
