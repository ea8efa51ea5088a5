"""The ASGI application: the routes of the API, the files of the web pages, and what all requests have in common.

For every request, the application checks the `Host` header and the token, adds an id and security headers to the
response, writes a log line, and answers with a problem (`problems`) if a handler raises an exception. It does so
without Starlette's middleware, which would make every prediction slower.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.resources import files

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path
from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send
from typing_extensions import override

from onetrunk.core.errors import OneTrunkError
from onetrunk.core.serving.engine.backend import ServingBackend
from onetrunk.core.serving.http.auth import Access
from onetrunk.core.serving.http.json_log import EventLog, LogSampler
from onetrunk.core.serving.http.problems import Refusal, problem_of
from onetrunk.core.serving.http.prometheus import Metrics
from onetrunk.core.serving.http.request import JSON_TYPE, BodyReader, RequestContext, problem_response
from onetrunk.core.serving.http.routes import ROUTES, Route, document
from onetrunk.core.serving.http.service import HttpService
from onetrunk.core.serving.http.sockets import host_of, is_loopback

_CONTEXT = "onetrunk.request"
"""Key of the ASGI scope: the `RequestContext`."""
_CLIENT_CLOSED = 499
"""Status in the log and the metrics if the client disconnected before it had a response. It is never sent."""
_SINGLE_HEADERS = frozenset(
    (b"host", b"authorization", b"content-length", b"content-type", b"content-encoding", b"transfer-encoding")
)
"""Headers that must not be repeated: a proxy could have checked another one than this service."""
_SECURITY_HEADERS = (
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
_PATHS = {"index.html": "/", "docs.html": "/docs"}
"""URL path of a file of `page/`; the path of any other file is its name."""
_log = logging.getLogger(__name__)


class App:
    """The ASGI application.

    engine: the backend. If its event sink is a `Metrics`, `/metrics` shows the backend's events too.
    access: the tokens; by default there are none.
    log: by default, a log on stderr.
    """

    def __init__(
        self, engine: ServingBackend, *, access: Access | None = None, log: EventLog | None = None
    ) -> None:
        metrics = engine.events if isinstance(engine.events, Metrics) else Metrics()
        metrics.watch(engine)
        self.service = HttpService(
            engine=engine,
            access=access or Access(),
            metrics=metrics,
            log=log or EventLog(),
            body_reader=BodyReader(engine.limits),
        )
        paths: dict[str, dict[str, Route]] = defaultdict(dict)
        for route in (*ROUTES, *_file_routes()):
            paths[route.path][route.method] = route
        endpoints = [Path(path, _Endpoint(self.service, path, routes)) for path, routes in paths.items()]
        self._router = _Router(endpoints, redirect_slashes=False)
        self._overload = LogSampler()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        request, method = RequestContext(scope, receive), scope["method"]
        self.service.metrics.request_started()
        inner = {**scope, _CONTEXT: request, "method": "GET" if method == "HEAD" else method}
        reply = partial(self._send, request, send)
        try:
            if wrong := request.repeated & _SINGLE_HEADERS:
                name = min(wrong).decode()
                raise Refusal("malformed-request", f"the request has several headers {name!r}; send one")
            # Otherwise any web page could send requests by a domain that resolves to 127.0.0.1 (DNS rebinding).
            if self.service.access.is_open and not is_loopback(host_of(request.header(b"host"))):
                detail = "without tokens, this service answers only requests to localhost and 127.0.0.1"
                raise Refusal("forbidden", detail)
            await self._router(inner, receive, reply)
        except ClientDisconnect:
            request.status = _CLIENT_CLOSED
        except Exception as error:
            if not isinstance(error, OneTrunkError):
                _log.error("request %s failed", request.id, exc_info=error)
            if request.status:  # the response has begun; the server closes the connection
                raise
            problem = problem_of(request.grant.redact(error))
            self.service.metrics.problem_sent(problem.kind)
            await problem_response(problem, request.id)(inner, receive, reply)
        finally:
            request.end()
            self._record(request, method, request.status or _CLIENT_CLOSED)

    async def _send(self, request: RequestContext, send: Send, message: Message) -> None:
        """Send a part of a response; its start gets the common headers."""
        if message["type"] == "http.response.start":
            request.status = message["status"]
            headers = [*message["headers"], (b"x-request-id", request.id.encode()), *_SECURITY_HEADERS]
            # After `Expect: 100-continue` and an error, the server cannot tell the body from a next request.
            body_unsent = request.status >= 400 and b"expect" in request.headers
            if self.service.draining or body_unsent:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await send(message)

    def _record(self, request: RequestContext, method: str, status: int) -> None:
        """Add a completed request to the metrics and the log."""
        seconds = time.perf_counter() - request.began
        self.service.metrics.request_ended(request.route, status, seconds)
        left_out = self._overload.sample() if status == 429 else 0
        if left_out is None:
            return
        self.service.log.write(
            "request",
            id=request.id,
            method=method,
            route=request.route,
            status=status,
            ms=round(1e3 * seconds, 2),
            inputs=request.inputs,
            token=request.grant.name,
            left_out=left_out or None,
        )


class _Router(Router):
    """Starlette's router, but an unknown path is answered with a problem."""

    @override
    async def not_found(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raise Refusal("not-found", "this path does not exist; /docs lists all paths")
        await super().not_found(scope, receive, send)


class _Endpoint:
    """The ASGI application of one path. routes: by method."""

    def __init__(self, service: HttpService, path: str, routes: Mapping[str, Route]) -> None:
        self._service, self._path, self._routes = service, path, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request: RequestContext = scope[_CONTEXT]
        request.route, request.params = self._path, scope["path_params"]
        route = self._routes.get(scope["method"])
        if route is None:
            allow = ", ".join(sorted({*self._routes, *(("HEAD",) if "GET" in self._routes else ())}))
            raise Refusal("method-not-allowed", f"this path has only the methods {allow}", {"Allow": allow})
        if route.secured:
            request.grant = self._service.access.grant(request.header(b"authorization"), route.scope)
        response = await route.handler(self._service, request)
        await response(scope, receive, send)


def _file_routes() -> Iterator[Route]:
    """Yield the routes of the OpenAPI document and of the files of the web pages."""
    yield _file_route("/openapi.json", bytes(JSONResponse(document()).body), JSON_TYPE)
    for file in (files("onetrunk.core.serving.http") / "page").iterdir():
        media_type = _MEDIA_TYPES.get(file.name.rpartition(".")[2])
        if media_type is not None:
            yield _file_route(_PATHS.get(file.name, f"/{file.name}"), file.read_bytes(), media_type)


def _file_route(path: str, content: bytes, media_type: str) -> Route:
    """Return the route of a file. A browser may keep the file, but must check for a new version each time."""

    async def file(_service: HttpService, _request: RequestContext) -> Response:
        return Response(content, headers={"Content-Type": media_type, "Cache-Control": "no-cache"})

    return Route("GET", path, file, {}, secured=False)
