"""The table of the API's routes: the handler of each, and its description in the OpenAPI document."""

from __future__ import annotations

from onetrunk.core.serving.http import management_routes, predict_routes, stream
from onetrunk.core.serving.http.openapi import (
    INPUT_PROBLEMS,
    LOAD_PROBLEMS,
    NAME_PROBLEMS,
    Responses,
    Route,
    content,
    operation_extras,
    problem_responses,
    responses_of,
)
from onetrunk.core.serving.http.request_context import JSON_TYPE

_ADAPTERS, _ADAPTER = "/v1/adapters", "/v1/adapters/{name}"
_READY: Responses = {
    **responses_of("HealthStatus", secured=False),
    503: content("HealthStatus", JSON_TYPE, "The service does not accept requests now."),
}
_LOADED: Responses = {
    **responses_of("LoadedAdapter", *LOAD_PROBLEMS),
    200: content("LoadedAdapter", JSON_TYPE, "The adapter replaced the version `previous`."),
    201: content("LoadedAdapter", JSON_TYPE, "The name is new."),
}
_UNLOADED: Responses = {
    204: {"description": "The name is no longer served."},
    **problem_responses("forbidden", "internal", "unauthorized", *NAME_PROBLEMS),
}
_LINES: Responses = {
    **responses_of("StreamResult", *INPUT_PROBLEMS),
    200: content("StreamResult", stream.NDJSON, "One line for each line of the request, in order."),
}
_METRICS: Responses = {
    200: {
        "description": "Metrics in Prometheus's text format.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    },
    **problem_responses("forbidden", "internal", "unauthorized"),
}

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
    Route("GET", _ADAPTERS, management_routes.list_adapters, responses_of("AdapterList")),
    Route(
        "GET",
        _ADAPTER,
        management_routes.show_adapter,
        responses_of("AdapterRecord", *NAME_PROBLEMS),
        operation_extras(named=True),
    ),
    Route(
        "PUT", _ADAPTER, management_routes.put_adapter, _LOADED, operation_extras("LoadRequest", named=True)
    ),
    Route("DELETE", _ADAPTER, management_routes.delete_adapter, _UNLOADED, operation_extras(named=True)),
    Route("GET", "/v1/status", management_routes.show_status, responses_of("ServiceStatus")),
    Route(
        "GET",
        "/healthz",
        management_routes.live,
        responses_of("HealthStatus", secured=False),
        operation_extras(secured=False),
    ),
    Route("GET", "/readyz", management_routes.ready, _READY, operation_extras(secured=False)),
    Route("GET", "/metrics", management_routes.metrics, _METRICS),
)
"""All routes except those of the web pages."""
