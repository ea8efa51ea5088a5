"""The routes of the API, and the OpenAPI document, which is made from the routes, the schemas and the problems."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from pydantic.json_schema import models_json_schema

from onetrunk.core.serving.engine.config import NAME
from onetrunk.core.serving.http import management_routes, predict_routes, schemas
from onetrunk.core.serving.http.problems import MEDIA_TYPE, PROBLEMS, Problem
from onetrunk.core.serving.http.request import JSON_TYPE
from onetrunk.core.serving.http.service import Handler
from onetrunk.core.serving.http.stream import NDJSON, predict_stream

_DESCRIPTION = """Many text tasks on one frozen encoder: each text is answered by any of the served adapters.

Errors are problem details (RFC 9457). Every response has the id of its request in `X-Request-Id`."""
_Responses = dict[int | str, Any]
"""OpenAPI responses by status."""
_REF = "#/components/schemas/"
_BODY = (
    "malformed-json",
    "unsupported-media-type",
    "body-too-large",
    "body-too-slow",
    "invalid-request",
    "shutting-down",
)
_INPUT_PROBLEMS = (
    *_BODY,
    "too-many-inputs",
    "text-too-long",
    "response-too-large",
    "too-many-adapters",
    "unknown-adapter",
    "queue-full",
    "timeout",
    "adapter-unavailable",
)
"""Kinds of problems of a request with texts."""
_LOAD_PROBLEMS = (
    *_BODY,
    "queue-full",
    "unknown-reference",
    "adapter-rejected",
    "remote-unavailable",
    "load-timeout",
)
"""Kinds of problems of a request to load an adapter."""
_NAME_PROBLEMS = ("unknown-adapter", "invalid-request")
"""Kinds of problems of a request whose path has the name of an adapter."""

_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": f"^{NAME}$"},
    "example": "ner",
    "description": "The served name of the adapter.",
}


def _content(model: str, description: str = "Success.", media: str = JSON_TYPE) -> dict[str, Any]:
    """Return the OpenAPI description of a body. model: name of its schema. media: its content type."""
    return {"description": description, "content": {media: {"schema": {"$ref": _REF + model}}}}


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the API.

    handler: answers its requests; the first line of its docstring is the route's summary in the document.
    success: its OpenAPI responses that are not problems, by status.
    problems: kinds of its problems, in addition to those of all routes.
    body: the OpenAPI description of the request's body; None if it has none.
    secured: whether a request needs a token, if the service has tokens.
    scope: the scope that the token needs; None if any token is enough.
    """

    method: str
    path: str
    handler: Handler
    success: _Responses
    problems: Sequence[str] = ()
    body: Mapping[str, Any] | None = None
    secured: bool = True
    scope: str | None = None

    def operation(self) -> dict[str, Any]:
        """Return the OpenAPI operation of the route."""
        kinds = {
            *self.problems,
            "forbidden",
            "internal",
            "malformed-request",
            *(("unauthorized",) if self.secured else ()),
        }
        by_status: dict[int, list[str]] = defaultdict(list)
        for kind in sorted(kinds):
            by_status[PROBLEMS[kind][0]].append(kind)
        problems: _Responses = {each: _problem_response(each, by_status[each]) for each in sorted(by_status)}
        request_id = {
            "schema": {"type": "string"},
            "description": "The id of the request, which its line in the log also has.",
        }
        responses = {
            str(status): {**response, "headers": {**response.get("headers", {}), "X-Request-Id": request_id}}
            for status, response in {**self.success, **problems}.items()
        }
        return {
            "summary": (self.handler.__doc__ or "").partition("\n")[0],
            "operationId": self.handler.__name__,
            "responses": responses,
            **({"requestBody": {"required": True, **self.body}} if self.body else {}),
            **({"parameters": [_NAME]} if "{name}" in self.path else {}),
            **({"security": [{"token": []}, {}]} if self.secured else {}),
        }


def _problem_response(status: int, kinds: Sequence[str]) -> dict[str, Any]:
    """Return the response of all kinds of problems with the same status."""
    examples = {
        kind: {"value": Problem(kind, "What is wrong, and what to do.").to_json(instance="9f86d081884c7d65")}
        for kind in kinds
    }
    headers = {429: ["Retry-After"], 503: ["Retry-After"], 401: ["WWW-Authenticate"]}.get(status, [])
    return {
        "description": " · ".join(PROBLEMS[kind][1] for kind in kinds),
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"{_REF}ProblemDetails"}, "examples": examples}},
        "headers": {name: {"schema": {"type": "string"}} for name in headers},
    }


_ADAPTERS, _ADAPTER = "/v1/adapters", "/v1/adapters/{name}"
_JSON = "JSON in UTF-8."
_LINES = _content("StreamResult", "One line for each line of the request, in order.", NDJSON)
_LOADED: _Responses = {
    200: _content("LoadedAdapter", "The adapter replaced the version `previous`."),
    201: _content("LoadedAdapter", "The name is new."),
}
_UNLOADED: _Responses = {204: {"description": "The name is no longer served."}}
_HEALTHY: _Responses = {200: _content("HealthStatus")}
_READY: _Responses = {**_HEALTHY, 503: _content("HealthStatus", "The service accepts no requests now.")}
_METRICS = {
    "description": "Metrics in Prometheus's text format.",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}

ROUTES = (
    Route(
        "POST",
        "/v1/predict",
        predict_routes.predict,
        {200: _content("PredictResponse")},
        _INPUT_PROBLEMS,
        _content("PredictRequest", _JSON),
        scope="predict",
    ),
    Route(
        "POST",
        "/v1/predict/stream",
        predict_stream,
        {200: _LINES},
        _INPUT_PROBLEMS,
        _content("StreamLine", _JSON, NDJSON),
        scope="predict",
    ),
    Route("GET", _ADAPTERS, management_routes.list_adapters, {200: _content("AdapterList")}),
    Route("GET", _ADAPTER, management_routes.show_adapter, {200: _content("AdapterRecord")}, _NAME_PROBLEMS),
    Route(
        "PUT",
        _ADAPTER,
        management_routes.put_adapter,
        _LOADED,
        _LOAD_PROBLEMS,
        _content("LoadRequest", _JSON),
        scope="admin",
    ),
    Route("DELETE", _ADAPTER, management_routes.delete_adapter, _UNLOADED, _NAME_PROBLEMS, scope="admin"),
    Route("GET", "/v1/status", management_routes.show_status, {200: _content("ServiceStatus")}),
    Route("GET", "/healthz", management_routes.live, _HEALTHY, secured=False),
    Route("GET", "/readyz", management_routes.ready, _READY, secured=False),
    Route("GET", "/metrics", management_routes.metrics, {200: _METRICS}, scope="metrics"),
)
"""All routes except those of the OpenAPI document and the web pages."""


def document() -> dict[str, Any]:
    """Return the OpenAPI document of `ROUTES`."""
    paths: dict[str, Any] = defaultdict(dict)
    for route in ROUTES:
        paths[route.path][route.method.lower()] = route.operation()
    names = set(re.findall(rf"{_REF}(\w+)", json.dumps(paths)))
    _, definitions = models_json_schema(
        [(getattr(schemas, name), "serialization") for name in sorted(names)], ref_template=_REF + "{model}"
    )
    token = {"type": "http", "scheme": "bearer", "description": "Needed if the service has a token file."}
    return {
        "openapi": "3.1.0",
        "info": {"title": "OneTrunk", "description": _DESCRIPTION, "version": version("onetrunk")},
        "paths": paths,
        "components": {"schemas": definitions["$defs"], "securitySchemes": {"token": token}},
    }
