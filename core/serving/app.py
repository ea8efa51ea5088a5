"""The application: the routes around an engine, as a FastAPI app."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from onetrunk.core.serving import managing, state
from onetrunk.core.serving.access import Access
from onetrunk.core.serving.bodies import Bodies
from onetrunk.core.serving.calls import Front, Handler, Service
from onetrunk.core.serving.engine import Engine
from onetrunk.core.serving.logs import EventLog
from onetrunk.core.serving.metrics import Metrics
from onetrunk.core.serving.openapi import (
    INPUTS,
    LOADS,
    NAMED,
    answers,
    content,
    described,
    document,
    problem_answers,
)
from onetrunk.core.serving.pages import page_files, page_response
from onetrunk.core.serving.predicting import predict
from onetrunk.core.serving.problems import Refusal
from onetrunk.core.serving.stream import NDJSON, predict_stream

DESCRIPTION = """Every task from one frozen encoder: each text goes through any of the adapters that serve.

Errors are problem details, RFC 9457. Every response has its request's id in `X-Request-Id`."""
_PREDICT, _STREAM = "/v1/predict", "/v1/predict/stream"
_ADAPTERS, _ADAPTER = "/v1/adapters", "/v1/adapters/{name}"


class App(FastAPI):
    """The application; `service` is what its routes work with."""

    def __init__(self, service: Service) -> None:
        super().__init__(
            title="OneTrunk",
            version=version("onetrunk"),
            description=DESCRIPTION,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
        )
        self.service = service

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        return document(self)


def make_app(
    engine: Engine, *, access: Access | None = None, log: EventLog | None = None, local: bool | None = None
) -> App:
    """Return the application around `engine`, whose observer is a `Metrics` where there are to be metrics.

    access: the tokens; by default there are none. local: answer to loopback names alone, by default where there are
    no tokens: a page on the web could otherwise make a name of its own mean this machine.
    """
    access = access or Access()
    metrics = engine.observer if isinstance(engine.observer, Metrics) else Metrics()
    metrics.watch(engine)
    service = Service(
        engine=engine,
        access=access,
        metrics=metrics,
        log=log or EventLog(),
        bodies=Bodies(engine.limits),
        local=access.open if local is None else local,
    )
    app = App(service)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_middleware(
        Front, service=service, direct={("POST", _PREDICT): predict, ("POST", _STREAM): predict_stream}
    )
    _answer_routes(app)
    _adapter_routes(app)
    _state_routes(app)
    _page_routes(app)
    return app


def _answer_routes(app: App) -> None:
    _add(app, "POST", _PREDICT, predict, answers("PredictResponse", *INPUTS), described("PredictRequest"))
    lines = {
        **answers("StreamResult", *INPUTS),
        200: content("StreamResult", NDJSON, "A line for each line, in order."),
    }
    _add(app, "POST", _STREAM, predict_stream, lines, described("StreamLine", NDJSON))


def _adapter_routes(app: App) -> None:
    handlers = managing
    _add(app, "GET", _ADAPTERS, handlers.list_adapters, answers("AdapterList"), described())
    _add(app, "GET", _ADAPTER, handlers.show_adapter, answers("Adapter", *NAMED), described(named=True))
    loaded = {
        **answers("Loaded", *LOADS),
        200: content("Loaded", "application/json", "It has replaced `previous`."),
        201: content("Loaded", "application/json", "Nothing served under this name before."),
    }
    _add(app, "PUT", _ADAPTER, handlers.put_adapter, loaded, described("LoadRequest", named=True))
    gone = {
        204: {"description": "It no longer serves."},
        **problem_answers("forbidden", "internal", "unauthorized", *NAMED),
    }
    _add(app, "DELETE", _ADAPTER, handlers.delete_adapter, gone, described(named=True), status=204)


def _state_routes(app: App) -> None:
    _add(app, "GET", "/v1/status", state.show_status, answers("Status"), described())
    _add(app, "GET", "/healthz", state.live, answers("Health", secured=False), described(secured=False))
    ready = {
        **answers("Health", secured=False),
        503: content("Health", "application/json", "A request would be refused now."),
    }
    _add(app, "GET", "/readyz", state.ready, ready, described(secured=False))
    page = {
        200: {
            "description": "Prometheus's text format.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **problem_answers("forbidden", "internal", "unauthorized"),
    }
    _add(app, "GET", "/metrics", state.metrics, page, described())


def _page_routes(app: App) -> None:
    for path, (data, media) in page_files().items():

        async def page(data: bytes = data, media: str = media) -> Response:
            return page_response(data, media)

        app.add_route(path, _plain(page), methods=["GET"], include_in_schema=False)


def _add(
    app: App,
    method: str,
    path: str,
    handler: Handler,
    responses: dict[int | str, Any],
    extra: dict[str, Any],
    status: int = 200,
) -> None:
    """Add a route; its first line of documentation is its summary."""
    service = app.service

    async def endpoint(request: Request) -> Response:
        return await handler(service, request)

    app.add_api_route(
        path,
        endpoint,
        methods=[method],
        name=handler.__name__,
        operation_id=handler.__name__,
        summary=(handler.__doc__ or "").partition("\n")[0],
        description=" ",
        response_class=Response,
        responses=responses,
        status_code=status,
        openapi_extra=extra,
    )


def _plain(
    page: Callable[[], Coroutine[Any, Any, Response]],
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def answer(_request: Request) -> Response:
        return await page()

    return answer


async def _refuse(request: Request, error: Exception) -> Response:
    """Raise what the router found no route for as a Refusal, of which the front makes a problem."""
    assert isinstance(error, HTTPException)
    if error.status_code != 405:
        raise Refusal("not-found", "there is nothing at this path; see /docs")
    matching = [each for each in request.app.routes if each.path_regex.match(request.url.path)]
    allow = ", ".join(sorted({method for each in matching for method in each.methods}))
    raise Refusal("method-not-allowed", f"this path takes {allow}", {"Allow": allow})
