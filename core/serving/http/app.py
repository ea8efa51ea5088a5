"""The application: the routes around an engine, as a FastAPI app."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from onetrunk.core.serving.engine.backend import Desk
from onetrunk.core.serving.http.auth import Access
from onetrunk.core.serving.http.body_limits import Bodies
from onetrunk.core.serving.http.json_codec import write_json
from onetrunk.core.serving.http.json_log import EventLog
from onetrunk.core.serving.http.middleware import CALL, Direct, Front
from onetrunk.core.serving.http.openapi import document
from onetrunk.core.serving.http.problems import Refusal
from onetrunk.core.serving.http.prometheus import Metrics
from onetrunk.core.serving.http.request_context import Call, Service
from onetrunk.core.serving.http.routes import ROUTES, Route
from onetrunk.core.serving.http.static_files import page_files, page_response

DESCRIPTION = """Every task from one frozen encoder: each text goes through any of the adapters that serve.

Errors are problem details, RFC 9457. Every response has its request's id in `X-Request-Id`."""


class App(FastAPI):
    """The application; `service` is what its routes work with."""

    def __init__(self, service: Service) -> None:
        super().__init__(
            title="OneTrunk",
            version=version("onetrunk"),
            description=DESCRIPTION,
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
            redirect_slashes=False,
        )
        self.service = service
        self._hot: dict[tuple[str, str], ASGIApp] = {}
        self.add_exception_handler(HTTPException, _refuse)
        self.add_middleware(Front, service=service)
        for route in ROUTES:
            self._add(route)
        # Made once: it takes long to.
        self._add_page("/openapi.json", write_json(self.openapi()), "application/json")
        for path, (data, media) in page_files().items():
            self._add_page(path, data, media)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; what is hot does not go through the router."""
        key = (scope["method"], scope["path"]) if scope["type"] == "http" else ("", "")
        await self._hot.get(key, super().__call__)(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        return document(self)

    def _add(self, route: Route) -> None:
        async def endpoint(request: Request) -> Response:
            call: Call = request.scope[CALL]
            call.params = request.path_params
            return await route.handler(self.service, call)

        self.add_api_route(
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
        if route.hot:
            direct = Direct(self.service, route.path, route.handler)
            self._hot[route.method, route.path] = Front(direct, self.service)

    def _add_page(self, path: str, data: bytes, media: str) -> None:
        async def page(_request: Request) -> Response:
            return page_response(data, media)

        self.add_route(path, page, methods=["GET"], include_in_schema=False)


def make_app(
    engine: Desk, *, access: Access | None = None, log: EventLog | None = None, local: bool | None = None
) -> App:
    """Return the application around `engine`, whose observer is a `Metrics` where there are to be metrics.

    access: the tokens; by default there are none. local: answer to loopback names alone, by default where there are
    no tokens: a page on the web could otherwise make a name of its own mean this machine.
    """
    access = access or Access()
    metrics = engine.observer if isinstance(engine.observer, Metrics) else Metrics()
    metrics.watch(engine)
    return App(
        Service(
            engine=engine,
            access=access,
            metrics=metrics,
            log=log or EventLog(),
            bodies=Bodies(engine.limits),
            local=access.open if local is None else local,
        )
    )


async def _refuse(request: Request, error: Exception) -> Response:
    """Raise what the router found no route for as a Refusal, of which the front makes a problem."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code != 405:
        raise Refusal("not-found", "there is nothing at this path; see /docs")
    matching = [each for each in request.app.routes if each.path_regex.match(request.url.path)]
    methods = {method for each in matching for method in each.methods}
    allow = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    raise Refusal("method-not-allowed", f"this path takes {allow}", {"Allow": allow})
