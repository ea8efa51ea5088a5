"""What all requests go through: an id, the check of the host, a line in the log, errors as problems.

Plain ASGI, and cheap: `POST /v1/predict` comes through here, too.
"""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onetrunk.core.errors import OneTrunkError
from onetrunk.core.serving.http.body_reader import ClientDisconnected
from onetrunk.core.serving.http.hosts import host_of, is_loopback
from onetrunk.core.serving.http.json_log import LogSampler
from onetrunk.core.serving.http.problems import Refusal, problem_of
from onetrunk.core.serving.http.request_context import HttpService, RequestContext, problem_response

CONTEXT = "onetrunk.request"
"""Where the scope has the `RequestContext`."""
_CLIENT_CLOSED = 499
"""The status in log and metrics of a request whose client went away; nobody is sent it."""
_SECURITY = (
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_log = logging.getLogger(__name__)


class RequestMiddleware:
    """The middleware around `app`."""

    def __init__(self, app: ASGIApp, service: HttpService) -> None:
        self._app, self._service = app, service
        self._refused = LogSampler()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, method = RequestContext(scope, receive), scope["method"]
        self._service.metrics.request_started()
        inner = {**scope, CONTEXT: request, "method": "GET" if method == "HEAD" else method}
        reply = _Reply(self._service, request, send)
        try:
            if self._service.loopback_only and not is_loopback(host_of(request.header(b"host"))):
                raise Refusal(
                    "forbidden", "without tokens this service answers to localhost and 127.0.0.1 alone"
                )
            await self._app(inner, receive, reply)
        except ClientDisconnected:
            reply.status = _CLIENT_CLOSED
        except Exception as error:
            await self._failed(error, inner, receive, reply)
        finally:
            request.end()
            self._note(request, method, reply.status or _CLIENT_CLOSED)

    async def _failed(self, error: Exception, scope: Scope, receive: Receive, reply: _Reply) -> None:
        """Answer with the problem that `error` is."""
        request: RequestContext = scope[CONTEXT]
        if not isinstance(error, OneTrunkError):
            _log.error("request %s failed", request.id, exc_info=error)
        if reply.status:  # too late for another answer; the server cuts the connection
            raise error
        problem = problem_of(error)
        self._service.metrics.problem_sent(problem.kind)
        await problem_response(problem, request)(scope, receive, reply)

    def _note(self, request: RequestContext, method: str, status: int) -> None:
        seconds = time.perf_counter() - request.began
        self._service.metrics.request_ended(request.route, status, seconds)
        left_out = self._refused.take() if status == 429 else 0
        if left_out is None:
            return
        self._service.log.write(
            "request",
            id=request.id,
            method=method,
            route=request.route,
            status=status,
            ms=round(1e3 * seconds, 2),
            inputs=request.inputs,
            token=request.token,
            left_out=left_out or None,
        )


class _Reply:
    """Sends a response with the headers that all have. status: that of the response, 0 before it has begun."""

    def __init__(self, service: HttpService, request: RequestContext, send: Send) -> None:
        self._service, self._request, self._send = service, request, send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message["headers"], (b"x-request-id", self._request.id.encode()), *_SECURITY]
            # Else what comes next would be taken for the body that the client was not asked for.
            unasked = self.status >= 400 and b"expect" in self._request.headers
            if self._service.draining or unasked:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)
