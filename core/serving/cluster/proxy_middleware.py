"""ASGI middleware for an application behind Ray's HTTP proxy."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onetrunk.core.serving.http.problems import Problem
from onetrunk.core.serving.http.request import REQUEST_ID, new_id, problem_response
from onetrunk.core.serving.http.sockets import is_loopback

_ID_HEADER = b"x-request-id"
_MAX_ID = 100
"""Maximum number of characters of a request id. Clients can choose the id; what is longer is cut off."""


class ProxyMiddleware:
    """Uses the request id of Ray's proxy, and removes it from responses, because the proxy adds it again.

    local: refuse clients that are not on this machine. The address of each client is checked, because only Ray's
        configuration knows on which address the proxy listens.
    """

    def __init__(self, app: ASGIApp, *, local: bool) -> None:
        self._app, self._local = app, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = dict(scope["headers"]).get(_ID_HEADER, b"").decode("latin-1")[:_MAX_ID]

        async def send_without_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                rest = [header for header in message["headers"] if header[0] != _ID_HEADER]
                message = {**message, "headers": rest}
            await send(message)

        inner = {**scope, REQUEST_ID: request_id}
        client = (scope.get("client") or ("",))[0]
        if self._local and not is_loopback(client):
            problem = Problem(
                "forbidden", "without a token file, only clients on the service's machine are answered"
            )
            await problem_response(problem, request_id or new_id())(inner, receive, send)
        else:
            await self._app(inner, receive, send_without_id)
