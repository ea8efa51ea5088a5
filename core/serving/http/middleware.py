"""Middleware of all requests: request id, check of the `Host` header, log line, security headers, error responses.

It is plain ASGI, because every `POST /v1/predict` passes through it.
"""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onetrunk.core.errors import OneTrunkError
from onetrunk.core.serving.http.body_reader import ClientDisconnected
from onetrunk.core.serving.http.json_log import LogSampler
from onetrunk.core.serving.http.problems import Refusal, problem_of
from onetrunk.core.serving.http.request_context import RequestContext, problem_response
from onetrunk.core.serving.http.service import HttpService
from onetrunk.core.serving.http.sockets import host_of, is_loopback

CONTEXT = "onetrunk.request"
"""Key of the ASGI scope: the `RequestContext`."""
_CLIENT_CLOSED = 499
"""Status in the log and the metrics if the client disconnected before it had a response. It is never sent."""
_SECURITY_HEADERS = (
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_log = logging.getLogger(__name__)


class RequestMiddleware:
    """The middleware around `app`."""

    def __init__(self, app: ASGIApp, service: HttpService) -> None:
        self._app, self._service = app, service
        self._overload = LogSampler()

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
                detail = "without tokens, this service answers only requests to localhost and 127.0.0.1"
                raise Refusal("forbidden", detail)
            await self._app(inner, receive, reply)
        except ClientDisconnected:
            reply.status = _CLIENT_CLOSED
        except Exception as error:
            await self._send_problem(error, inner, receive, reply)
        finally:
            request.end()
            self._record(request, method, reply.status or _CLIENT_CLOSED)

    async def _send_problem(self, error: Exception, scope: Scope, receive: Receive, reply: _Reply) -> None:
        """Answer with the problem of `error`; raise it if the response has already begun."""
        request: RequestContext = scope[CONTEXT]
        if not isinstance(error, OneTrunkError):
            _log.error("request %s failed", request.id, exc_info=error)
        if reply.status:  # the server closes the connection
            raise error
        problem = problem_of(error)
        self._service.metrics.problem_sent(problem.kind)
        await problem_response(problem, request.id)(scope, receive, reply)

    def _record(self, request: RequestContext, method: str, status: int) -> None:
        """Add a request that has ended to the metrics and the log."""
        seconds = time.perf_counter() - request.began
        self._service.metrics.request_ended(request.route, status, seconds)
        left_out = self._overload.sample() if status == 429 else 0
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
    """Sends a response with the common headers. status: of the response; 0 before it has begun."""

    def __init__(self, service: HttpService, request: RequestContext, send: Send) -> None:
        self._service, self._request, self._send = service, request, send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            request_id = (b"x-request-id", self._request.id.encode())
            headers = [*message["headers"], request_id, *_SECURITY_HEADERS]
            # After `Expect: 100-continue` and an error, the server cannot tell the body from a next request.
            body_unsent = self.status >= 400 and b"expect" in self._request.headers
            if self._service.draining or body_unsent:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)
