"""An application behind Ray's HTTP proxy."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onetrunk.core.serving.http.problems import Problem
from onetrunk.core.serving.http.request_context import REQUEST_ID, new_id, problem_response
from onetrunk.core.serving.http.sockets import is_loopback

_REQUEST_ID = b"x-request-id"
_MOST_ID = 100
"""Characters of an id, which the proxy lets clients choose."""


class Proxied:
    """`app` behind the proxy, which gives each request its id, and each response the header with it.

    local: answer to this machine alone. Where the proxy listens is told to Ray, and not to us.
    """

    def __init__(self, app: ASGIApp, *, local: bool) -> None:
        self._app, self._local = app, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = dict(scope["headers"]).get(_REQUEST_ID, b"").decode("latin-1")[:_MOST_ID]

        async def send_once(message: Message) -> None:
            if message["type"] == "http.response.start":
                rest = [header for header in message["headers"] if header[0] != _REQUEST_ID]
                message = {**message, "headers": rest}
            await send(message)

        inner = {**scope, REQUEST_ID: request_id}
        client = (scope.get("client") or ("",))[0]
        if self._local and not is_loopback(client):
            problem = Problem("forbidden", "without tokens this service answers to its own machine alone")
            await problem_response(problem, request_id or new_id())(inner, receive, send)
        else:
            await self._app(inner, receive, send_once)
