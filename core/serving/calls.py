"""What all requests have in common: an id, the checks of who asks, a line in the log, errors as problems.

Plain ASGI, and cheap: `POST /v1/predict` comes through here, too.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onetrunk.core.errors import OneTrunkError
from onetrunk.core.serving.access import Access, Grant
from onetrunk.core.serving.bodies import Bodies, ClientGone
from onetrunk.core.serving.engine import Engine
from onetrunk.core.serving.logs import EventLog
from onetrunk.core.serving.metrics import Metrics
from onetrunk.core.serving.problems import MEDIA_TYPE, Problem, Refusal, problem_of
from onetrunk.core.serving.wire import write_json

_GONE = 499
"""The status in log and metrics of a request whose client went away; nobody is sent it."""
_CALL = "onetrunk.call"
_SECURITY = (
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Service:
    """What the routes work with.

    local: only requests to a loopback name are answered. draining: connections end with their next response.
    readers: what reads the bodies of streams.
    """

    engine: Engine
    access: Access
    metrics: Metrics
    log: EventLog
    bodies: Bodies
    local: bool
    draining: bool = False
    readers: set[asyncio.Task[None]] = field(default_factory=set)

    def stop_reading(self) -> None:
        """Take nothing more on: each response ends its connection from here, and streams end with what they have."""
        self.draining = True
        for reader in self.readers:
            reader.cancel()


@dataclass(slots=True)
class Call:
    """A request under way. route: its path in the OpenAPI document; inputs: how many texts; token: its name."""

    id: str
    began: float
    route: str = "other"
    inputs: int | None = None
    token: str | None = None


Handler = Callable[[Service, Request], Awaitable[Response]]
"""What answers a route. May raise OneTrunkError."""


def call_of(request: Request) -> Call:
    """Return the call that a request is."""
    call: Call = request.scope[_CALL]
    return call


def granted(service: Service, request: Request, scope: str | None = None) -> Grant:
    """Return what the token of a request gives. Raises Refusal: 401 without one, 403 without `scope`."""
    grant = service.access.grant(request.headers.get("authorization"), scope)
    call_of(request).token = grant.name
    return grant


class Front:
    """The middleware around all routes. direct: handlers that are called without going through the router."""

    def __init__(self, app: ASGIApp, service: Service, direct: Mapping[tuple[str, str], Handler]) -> None:
        self._app, self._service, self._direct = app, service, direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = Call(secrets.token_hex(8), time.perf_counter())
        method = scope["method"]
        inner = {**scope, _CALL: call, "method": "GET" if method == "HEAD" else method}
        reply = _Reply(self._service, call, send)
        try:
            await self._answered(inner, receive, reply)
        except ClientGone:
            reply.status = _GONE
        except Exception as error:
            await self._failed(error, inner, receive, reply)
        finally:
            self._note(call, method, inner, reply.status)

    async def _answered(self, scope: Scope, receive: Receive, reply: _Reply) -> None:
        request = Request(scope, receive)
        if self._service.local and not is_loopback(host_of(request.headers.get("host", ""))):
            raise Refusal("forbidden", "without tokens the service answers to localhost and 127.0.0.1 alone")
        handler = self._direct.get((scope["method"], scope["path"]))
        if handler is None:
            await self._app(scope, receive, reply)
        else:
            scope[_CALL].route = scope["path"]
            response = await handler(self._service, request)
            await response(scope, receive, reply)

    async def _failed(self, error: Exception, scope: Scope, receive: Receive, reply: _Reply) -> None:
        """Answer with the problem that `error` is."""
        call: Call = scope[_CALL]
        if not isinstance(error, OneTrunkError):
            _log.error("request %s failed", call.id, exc_info=error)
        if reply.status:  # too late for another answer; the server cuts the connection
            raise error
        problem = problem_of(error)
        self._service.metrics.error(problem.kind)
        await problem_response(problem, call)(scope, receive, reply)

    def _note(self, call: Call, method: str, scope: Scope, status: int) -> None:
        if call.route == "other" and (route := scope.get("route")) is not None:
            call.route = route.path
        seconds = time.perf_counter() - call.began
        self._service.metrics.request(call.route, status, seconds)
        self._service.log.write(
            "request",
            id=call.id,
            method=method,
            route=call.route,
            status=status,
            ms=round(1e3 * seconds, 2),
            inputs=call.inputs,
            token=call.token,
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
            if self._service.draining:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)


def problem_response(problem: Problem, call: Call, **more: object) -> Response:
    """Return the response that a problem is, with `more` members."""
    body = write_json(problem.to_json(**more, instance=call.id))
    return Response(body, problem.status, dict(problem.headers), MEDIA_TYPE)


def host_of(header: str) -> str:
    """Return the name or address of a header `Host`, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Tell whether a name or address means this machine, and nothing that others can reach."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
