"""A request under way, and what the routes answer it with."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.types import Receive, Scope

from onetrunk.core.serving.http.auth import Access, Grant
from onetrunk.core.serving.http.connection import CONNECTION, Connection
from onetrunk.core.serving.http.json_codec import write_json
from onetrunk.core.serving.http.problems import MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from onetrunk.core.serving.engine.backend import Desk
    from onetrunk.core.serving.http.body_reader import BodyReader
    from onetrunk.core.serving.http.json_log import EventLog
    from onetrunk.core.serving.http.prometheus import Metrics

OTHER = "other"
"""The route of a request that no route takes."""
ID = "onetrunk.id"
"""Where the scope has the id of a request, if it was given one before it came to the application."""


@dataclass(slots=True)
class HttpService:
    """What the routes work with.

    loopback_only: only requests to a loopback name are answered.
    draining: connections end with their next response.
    stream_readers: what reads the bodies of streams.
    """

    engine: Desk
    access: Access
    metrics: Metrics
    log: EventLog
    body_reader: BodyReader
    loopback_only: bool
    draining: bool = False
    stream_readers: set[asyncio.Task[None]] = field(default_factory=set)

    def begin_shutdown(self) -> None:
        """Take nothing more on: each response ends its connection now, and streams end with what they have."""
        self.draining = True
        for reader in self.stream_readers:
            reader.cancel()


class RequestContext:
    """A request under way.

    route: its path in the OpenAPI document; params: what stands for the names in it. inputs: how many texts.
    token: its name. headers: those of one name as the last of them. disconnected: done once the connection is lost;
    has_connection: there is a `Connection` that sees to that.
    """

    __slots__ = (
        "_connection",
        "_receive",
        "_unread",
        "began",
        "disconnected",
        "has_connection",
        "headers",
        "id",
        "inputs",
        "params",
        "route",
        "token",
    )

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.id: str = scope.get(ID) or new_id()
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
        """Return a header by its name in lower case; "" without it."""
        return self.headers.get(name, b"").decode("latin-1")

    async def receive(self) -> Any:
        """Return the next ASGI message: a part of the body, or that the client has gone."""
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
        """Tell the connection that the request has its response, or will have none."""
        if self._connection is not None:
            self._connection.request_ended(body_complete=not self._unread)


def new_id() -> str:
    """Return an id for a request."""
    return f"{random.getrandbits(64):016x}"


Handler = Callable[[HttpService, RequestContext], Awaitable[Response]]
"""What answers a route. May raise OneTrunkError and ClientDisconnected."""


def authorize(service: HttpService, request: RequestContext, scope: str | None = None) -> Grant:
    """Return what the token of a request gives. Raises Refusal: 401 without one, 403 without `scope`."""
    grant = service.access.grant(request.header(b"authorization"), scope)
    request.token = grant.name
    return grant


def problem_response(problem: Problem, request: RequestContext, **more: object) -> Response:
    """Return the response that a problem is, with `more` members."""
    body = write_json(problem.to_json(**more, instance=request.id))
    return Response(body, problem.status, dict(problem.headers), MEDIA_TYPE)
