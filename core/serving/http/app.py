"""The ASGI application: the routes of the API, and the files of the web pages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from importlib.resources import files

from starlette.responses import Response
from starlette.routing import Route as Path
from starlette.routing import Router
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from onetrunk.core.serving.engine.backend import ServingBackend
from onetrunk.core.serving.http.auth import Access
from onetrunk.core.serving.http.body_reader import BodyReader
from onetrunk.core.serving.http.json_log import EventLog
from onetrunk.core.serving.http.middleware import CONTEXT, RequestMiddleware
from onetrunk.core.serving.http.openapi import document
from onetrunk.core.serving.http.problems import Refusal
from onetrunk.core.serving.http.prometheus import Metrics
from onetrunk.core.serving.http.request_context import JSON_TYPE, RequestContext, encode_json
from onetrunk.core.serving.http.routes import ROUTES
from onetrunk.core.serving.http.service import Handler, HttpService

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ico": "image/x-icon",
    ".png": "image/png",
}
_PATHS = {"index.html": "/", "docs.html": "/docs"}
"""URL path of a file of `page/`; that of any other file is its name."""


class App:
    """The ASGI application. service: the objects that its handlers share."""

    def __init__(self, service: HttpService) -> None:
        self.service = service
        paths: dict[str, dict[str, Handler]] = defaultdict(dict)
        for route in ROUTES:
            paths[route.path][route.method] = route.handler
        # Made once: it takes long, and never changes.
        paths["/openapi.json"]["GET"] = _file_handler(encode_json(document(ROUTES)), JSON_TYPE)
        for file in (files("onetrunk.core.serving.http") / "page").iterdir():
            media = _MEDIA_TYPES.get("." + file.name.rpartition(".")[2])
            if media is not None:
                path = _PATHS.get(file.name, f"/{file.name}")
                paths[path]["GET"] = _file_handler(file.read_bytes(), media)
        routes = [Path(path, _Endpoint(service, path, handlers)) for path, handlers in paths.items()]
        self._app = RequestMiddleware(_Router(routes, redirect_slashes=False), service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._app(scope, receive, send)


def make_app(
    engine: ServingBackend,
    *,
    access: Access | None = None,
    log: EventLog | None = None,
    loopback_only: bool | None = None,
) -> App:
    """Return the application of a backend.

    engine: if its event sink is a `Metrics`, `/metrics` shows the engine's events too.
    access: the tokens; by default there are none.
    log: by default, a log on stderr.
    loopback_only: refuse requests whose `Host` is not a loopback name; by default, if there are no tokens.
        Otherwise any web page could reach the service through a domain that resolves to 127.0.0.1 (DNS rebinding).
    """
    access = access or Access()
    metrics = engine.events if isinstance(engine.events, Metrics) else Metrics()
    metrics.watch(engine)
    return App(
        HttpService(
            engine=engine,
            access=access,
            metrics=metrics,
            log=log or EventLog(),
            body_reader=BodyReader(engine.limits),
            loopback_only=access.is_open if loopback_only is None else loopback_only,
        )
    )


class _Router(Router):
    """Starlette's router, which answers an unknown path with a problem."""

    @override
    async def not_found(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raise Refusal("not-found", "this path does not exist; /docs lists all paths")
        await super().not_found(scope, receive, send)


class _Endpoint:
    """The ASGI application of one path, with a handler for each method."""

    def __init__(self, service: HttpService, path: str, handlers: Mapping[str, Handler]) -> None:
        self._service, self._path, self._handlers = service, path, handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request: RequestContext = scope[CONTEXT]
        request.route, request.params = self._path, scope["path_params"]
        handler = self._handlers.get(scope["method"])
        if handler is None:
            allow = ", ".join(sorted({*self._handlers, *(("HEAD",) if "GET" in self._handlers else ())}))
            raise Refusal("method-not-allowed", f"this path has only the methods {allow}", {"Allow": allow})
        response = await handler(self._service, request)
        await response(scope, receive, send)


def _file_handler(content: bytes, media: str) -> Handler:
    """Return the handler of a file. A browser may keep the file, but must check for a new version each time."""

    async def file(_service: HttpService, _request: RequestContext) -> Response:
        return Response(content, headers={"Content-Type": media, "Cache-Control": "no-cache"})

    return file
