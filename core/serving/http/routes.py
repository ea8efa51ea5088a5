"""The table of routes: what answers each, and how the OpenAPI document describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onetrunk.core.serving.http import adapter_routes, predict_routes, status_routes, stream
from onetrunk.core.serving.http.openapi import (
    INPUT_PROBLEMS,
    LOAD_PROBLEMS,
    NAME_PROBLEMS,
    Responses,
    content,
    operation_extras,
    problem_responses,
    responses_of,
)
from onetrunk.core.serving.http.request_context import Handler

JSON = "application/json"
_ADAPTERS, _ADAPTER = "/v1/adapters", "/v1/adapters/{name}"
_READY: Responses = {
    **responses_of("HealthStatus", secured=False),
    503: content("HealthStatus", JSON, "A request would be refused now."),
}
_LOADED: Responses = {
    **responses_of("LoadedAdapter", *LOAD_PROBLEMS),
    200: content("LoadedAdapter", JSON, "It has replaced `previous`."),
    201: content("LoadedAdapter", JSON, "Nothing served under this name before."),
}
_UNLOADED: Responses = {
    204: {"description": "It no longer serves."},
    **problem_responses("forbidden", "internal", "unauthorized", *NAME_PROBLEMS),
}
_LINES: Responses = {
    **responses_of("StreamResult", *INPUT_PROBLEMS),
    200: content("StreamResult", stream.NDJSON, "A line for each line, in order."),
}
_PAGE: Responses = {
    200: {"description": "Text for Prometheus.", "content": {"text/plain": {"schema": {"type": "string"}}}},
    **problem_responses("forbidden", "internal", "unauthorized"),
}


@dataclass(frozen=True, slots=True)
class Route:
    """A route. responses, extra: of the document. status: of success."""

    method: str
    path: str
    handler: Handler
    responses: Responses
    extra: Mapping[str, Any] = field(default_factory=operation_extras)
    status: int = 200


ROUTES = (
    Route(
        "POST",
        "/v1/predict",
        predict_routes.predict,
        responses_of("PredictResponse", *INPUT_PROBLEMS),
        operation_extras("PredictRequest"),
    ),
    Route(
        "POST",
        "/v1/predict/stream",
        stream.predict_stream,
        _LINES,
        operation_extras("StreamLine", stream.NDJSON),
    ),
    Route("GET", _ADAPTERS, adapter_routes.list_adapters, responses_of("AdapterList")),
    Route(
        "GET",
        _ADAPTER,
        adapter_routes.show_adapter,
        responses_of("AdapterRecord", *NAME_PROBLEMS),
        operation_extras(named=True),
    ),
    Route("PUT", _ADAPTER, adapter_routes.put_adapter, _LOADED, operation_extras("LoadRequest", named=True)),
    Route(
        "DELETE", _ADAPTER, adapter_routes.delete_adapter, _UNLOADED, operation_extras(named=True), status=204
    ),
    Route("GET", "/v1/status", status_routes.show_status, responses_of("ServiceStatus")),
    Route(
        "GET",
        "/healthz",
        status_routes.live,
        responses_of("HealthStatus", secured=False),
        operation_extras(secured=False),
    ),
    Route("GET", "/readyz", status_routes.ready, _READY, operation_extras(secured=False)),
    Route("GET", "/metrics", status_routes.metrics, _PAGE),
)
"""All routes but those of the pages."""
