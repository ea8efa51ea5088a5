"""What all requests go through: an id, the check of the host, a line in the log, errors as problems.

Plain ASGI, and cheap: `POST /v1/predict` comes through here, too.
"""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onetrunk.core.errors import OneTrunkError
from onetrunk.core.serving.http.body_limits import ClientGone
from onetrunk.core.serving.http.hosts import host_of, is_loopback
from onetrunk.core.serving.http.json_log import Sample
from onetrunk.core.serving.http.problems import Refusal, problem_of
from onetrunk.core.serving.http.request_context import Call, Service, problem_response

CALL = "onetrunk.call"
"""Where the scope has the `Call`."""
_GONE = 499
"""The status in log and metrics of a request whose client went away; nobody is sent it."""
_SECURITY = (
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_log = logging.getLogger(__name__)


class Front:
    """The middleware around `app`."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        self._refused = Sample()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call, method = Call(scope, receive), scope["method"]
        self._service.metrics.began()
        inner = {**scope, CALL: call, "method": "GET" if method == "HEAD" else method}
        reply = _Reply(self._service, call, send)
        try:
            if self._service.local and not is_loopback(host_of(call.header(b"host"))):
                raise Refusal(
                    "forbidden", "without tokens this service answers to localhost and 127.0.0.1 alone"
                )
            await self._app(inner, receive, reply)
        except ClientGone:
            reply.status = _GONE
        except Exception as error:
            await self._failed(error, inner, receive, reply)
        finally:
            call.end()
            self._note(call, method, reply.status or _GONE)

    async def _failed(self, error: Exception, scope: Scope, receive: Receive, reply: _Reply) -> None:
        """Answer with the problem that `error` is."""
        call: Call = scope[CALL]
        if not isinstance(error, OneTrunkError):
            _log.error("request %s failed", call.id, exc_info=error)
        if reply.status:  # too late for another answer; the server cuts the connection
            raise error
        problem = problem_of(error)
        self._service.metrics.error(problem.kind)
        await problem_response(problem, call)(scope, receive, reply)

    def _note(self, call: Call, method: str, status: int) -> None:
        seconds = time.perf_counter() - call.began
        self._service.metrics.request(call.route, status, seconds)
        left_out = self._refused.take() if status == 429 else 0
        if left_out is None:
            return
        self._service.log.write(
            "request",
            id=call.id,
            method=method,
            route=call.route,
            status=status,
            ms=round(1e3 * seconds, 2),
            inputs=call.inputs,
            token=call.token,
            left_out=left_out or None,
        )


class _Reply:
    """Sends a response with the headers that all have. status: that of the response, 0 before it has begun."""

    def __init__(self, service: Service, call: Call, send: Send) -> None:
        self._service, self._call, self._send = service, call, send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message["headers"], (b"x-request-id", self._call.id.encode()), *_SECURITY]
            # Else what comes next would be taken for the body that the client was not asked for.
            unasked = self.status >= 400 and b"expect" in self._call.headers
            if self._service.draining or unasked:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)
