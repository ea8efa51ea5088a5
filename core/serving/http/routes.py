"""The table of the API's routes: the handler of each, and its description in the OpenAPI document."""

from __future__ import annotations

from onetrunk.core.serving.http import management_routes, predict_routes
from onetrunk.core.serving.http.openapi import (
    INPUT_PROBLEMS,
    LOAD_PROBLEMS,
    NAME_PROBLEMS,
    Responses,
    Route,
    content,
)
from onetrunk.core.serving.http.stream import NDJSON, predict_stream

_ADAPTERS, _ADAPTER = "/v1/adapters", "/v1/adapters/{name}"
_BODY = "JSON in UTF-8."
_LINES = content("StreamResult", "One line for each line of the request, in order.", NDJSON)
_LOADED: Responses = {
    200: content("LoadedAdapter", "The adapter replaced the version `previous`."),
    201: content("LoadedAdapter", "The name is new."),
}
_UNLOADED: Responses = {204: {"description": "The name is no longer served."}}
_HEALTHY: Responses = {200: content("HealthStatus")}
_READY: Responses = {
    **_HEALTHY,
    503: content("HealthStatus", "The service does not accept requests now."),
}
_METRICS = {
    "description": "Metrics in Prometheus's text format.",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}

ROUTES = (
    Route(
        "POST",
        "/v1/predict",
        predict_routes.predict,
        {200: content("PredictResponse")},
        INPUT_PROBLEMS,
        content("PredictRequest", _BODY),
        scope="predict",
    ),
    Route(
        "POST",
        "/v1/predict/stream",
        predict_stream,
        {200: _LINES},
        INPUT_PROBLEMS,
        content("StreamLine", _BODY, NDJSON),
        scope="predict",
    ),
    Route("GET", _ADAPTERS, management_routes.list_adapters, {200: content("AdapterList")}),
    Route("GET", _ADAPTER, management_routes.show_adapter, {200: content("AdapterRecord")}, NAME_PROBLEMS),
    Route(
        "PUT",
        _ADAPTER,
        management_routes.put_adapter,
        _LOADED,
        LOAD_PROBLEMS,
        content("LoadRequest", _BODY),
        scope="admin",
    ),
    Route("DELETE", _ADAPTER, management_routes.delete_adapter, _UNLOADED, NAME_PROBLEMS, scope="admin"),
    Route("GET", "/v1/status", management_routes.show_status, {200: content("ServiceStatus")}),
    Route("GET", "/healthz", management_routes.live, _HEALTHY, secured=False),
    Route("GET", "/readyz", management_routes.ready, _READY, secured=False),
    Route("GET", "/metrics", management_routes.metrics, {200: _METRICS}, scope="admin"),
)
"""All routes except those of the OpenAPI document and the web pages."""
