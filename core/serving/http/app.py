"""The application: the routes around an engine, as an ASGI app."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import Route as Path
from starlette.routing import Router
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from onetrunk.core.serving.engine.backend import Desk
from onetrunk.core.serving.http.auth import Access
from onetrunk.core.serving.http.body_reader import BodyReader
from onetrunk.core.serving.http.json_codec import write_json
from onetrunk.core.serving.http.json_log import EventLog
from onetrunk.core.serving.http.middleware import CONTEXT, RequestMiddleware
from onetrunk.core.serving.http.openapi import document
from onetrunk.core.serving.http.problems import Refusal
from onetrunk.core.serving.http.prometheus import Metrics
from onetrunk.core.serving.http.request_context import Handler, HttpService, RequestContext
from onetrunk.core.serving.http.routes import ROUTES
from onetrunk.core.serving.http.static_files import page_files, page_response

DESCRIPTION = """Every task from one frozen encoder: each text goes through any of the adapters that serve.

Errors are problem details, RFC 9457. Every response has its request's id in `X-Request-Id`."""


class App:
    """The application; `service` is what its routes work with."""

    def __init__(self, service: HttpService) -> None:
        self.service = service
        paths: dict[str, dict[str, Handler]] = defaultdict(dict)
        for route in ROUTES:
            paths[route.path][route.method] = route.handler
        # The document takes long to make.
        paths["/openapi.json"]["GET"] = _page(write_json(_document()), "application/json")
        for path, (data, media) in page_files().items():
            paths[path]["GET"] = _page(data, media)
        routes = [Path(path, _Endpoint(service, path, handlers)) for path, handlers in paths.items()]
        self._app = RequestMiddleware(_Router(routes, redirect_slashes=False), service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._app(scope, receive, send)


def make_app(
    engine: Desk,
    *,
    access: Access | None = None,
    log: EventLog | None = None,
    loopback_only: bool | None = None,
) -> App:
    """Return the application around `engine`, whose observer is a `Metrics` where there are to be metrics.

    access: the tokens; by default there are none. loopback_only: answer to loopback names alone, by default
    where there are no tokens: a page on the web could otherwise make a name of its own mean this machine.
    """
    access = access or Access()
    metrics = engine.observer if isinstance(engine.observer, Metrics) else Metrics()
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
    """Starlette's router; Starlette's own responses are not problem details."""

    @override
    async def not_found(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raise Refusal("not-found", "there is nothing at this path; see /docs")
        await super().not_found(scope, receive, send)


class _Endpoint:
    """The ASGI application of one path: a handler for each method."""

    def __init__(self, service: HttpService, path: str, handlers: Mapping[str, Handler]) -> None:
        self._service, self._path, self._handlers = service, path, handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request: RequestContext = scope[CONTEXT]
        request.route, request.params = self._path, scope["path_params"]
        handler = self._handlers.get(scope["method"])
        if handler is None:
            allow = ", ".join(sorted({*self._handlers, *(("HEAD",) if "GET" in self._handlers else ())}))
            raise Refusal("method-not-allowed", f"this path takes {allow}", {"Allow": allow})
        response = await handler(self._service, request)
        await response(scope, receive, send)


def _page(data: bytes, media: str) -> Handler:
    async def page(_service: HttpService, _request: RequestContext) -> Response:
        return page_response(data, media)

    return page


def _document() -> dict[str, Any]:
    """Return the OpenAPI document; FastAPI writes it, from routes that are never called."""
    described = FastAPI(title="OneTrunk", version=version("onetrunk"), description=DESCRIPTION)

    async def endpoint() -> Response:
        raise NotImplementedError

    for route in ROUTES:
        described.add_api_route(
            route.path,
            endpoint,
            methods=[route.method],
            name=route.handler.__name__,
            operation_id=route.handler.__name__,
            summary=(route.handler.__doc__ or "").partition("\n")[0],
            description=" ",
            response_class=Response,
            responses=dict(route.responses),
            status_code=route.status,
            openapi_extra=dict(route.extra),
        )
    return document(described)
