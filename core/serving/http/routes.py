"""The table of routes: what answers each, and how the OpenAPI document describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onetrunk.core.serving.http import adapter_routes as managing
from onetrunk.core.serving.http import predict_routes as predicting
from onetrunk.core.serving.http import status_routes as state
from onetrunk.core.serving.http import stream
from onetrunk.core.serving.http.openapi import (
    INPUTS,
    LOADS,
    NAMED,
    Responses,
    answers,
    content,
    described,
    problem_answers,
)
from onetrunk.core.serving.http.request_context import Handler

JSON = "application/json"
_ADAPTERS, _ADAPTER = "/v1/adapters", "/v1/adapters/{name}"
_READY: Responses = {
    **answers("Health", secured=False),
    503: content("Health", JSON, "A request would be refused now."),
}
_LOADED: Responses = {
    **answers("Loaded", *LOADS),
    200: content("Loaded", JSON, "It has replaced `previous`."),
    201: content("Loaded", JSON, "Nothing served under this name before."),
}
_GONE: Responses = {
    204: {"description": "It no longer serves."},
    **problem_answers("forbidden", "internal", "unauthorized", *NAMED),
}
_LINES: Responses = {
    **answers("StreamResult", *INPUTS),
    200: content("StreamResult", stream.NDJSON, "A line for each line, in order."),
}
_PAGE: Responses = {
    200: {"description": "Text for Prometheus.", "content": {"text/plain": {"schema": {"type": "string"}}}},
    **problem_answers("forbidden", "internal", "unauthorized"),
}


@dataclass(frozen=True, slots=True)
class Route:
    """A route. responses, extra: of the document. status: of success."""

    method: str
    path: str
    handler: Handler
    responses: Responses
    extra: Mapping[str, Any] = field(default_factory=described)
    status: int = 200


ROUTES = (
    Route(
        "POST",
        "/v1/predict",
        predicting.predict,
        answers("PredictResponse", *INPUTS),
        described("PredictRequest"),
    ),
    Route(
        "POST",
        "/v1/predict/stream",
        stream.predict_stream,
        _LINES,
        described("StreamLine", stream.NDJSON),
    ),
    Route("GET", _ADAPTERS, managing.list_adapters, answers("AdapterList")),
    Route("GET", _ADAPTER, managing.show_adapter, answers("Adapter", *NAMED), described(named=True)),
    Route("PUT", _ADAPTER, managing.put_adapter, _LOADED, described("LoadRequest", named=True)),
    Route("DELETE", _ADAPTER, managing.delete_adapter, _GONE, described(named=True), status=204),
    Route("GET", "/v1/status", state.show_status, answers("Status")),
    Route("GET", "/healthz", state.live, answers("Health", secured=False), described(secured=False)),
    Route("GET", "/readyz", state.ready, _READY, described(secured=False)),
    Route("GET", "/metrics", state.metrics, _PAGE),
)
"""All routes but those of the pages."""
