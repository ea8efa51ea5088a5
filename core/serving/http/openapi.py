"""The OpenAPI document: built from the routes, the schemas and the table of problems."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from pydantic.json_schema import models_json_schema

from onetrunk.core.serving.engine.config import NAME
from onetrunk.core.serving.http.problems import MEDIA_TYPE, PROBLEMS
from onetrunk.core.serving.http.request_context import JSON_TYPE
from onetrunk.core.serving.http.schemas import MODELS
from onetrunk.core.serving.http.service import Handler

DESCRIPTION = """Many text tasks on one frozen encoder: each text is answered by any of the served adapters.

Errors are problem details (RFC 9457). Every response has the id of its request in `X-Request-Id`."""
REF = "#/components/schemas/"
Responses = dict[int | str, Any]
"""The OpenAPI responses of a route, by status."""
_EVERYWHERE = ("forbidden", "internal")
_BODY = (
    "malformed-json",
    "unsupported-media-type",
    "body-too-large",
    "body-too-slow",
    "invalid-request",
    "shutting-down",
)
INPUT_PROBLEMS = (
    *_BODY,
    "too-many-inputs",
    "text-too-long",
    "too-many-adapters",
    "unknown-adapter",
    "queue-full",
    "timeout",
    "adapter-unavailable",
)
"""Problems of a request with texts."""
LOAD_PROBLEMS = (*_BODY, "queue-full", "unknown-reference", "adapter-rejected", "remote-unavailable")
"""Problems of a load."""
NAME_PROBLEMS = ("unknown-adapter", "invalid-request")
"""Problems of a request whose path has the name of an adapter."""

_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": f"^{NAME}$"},
    "example": "ner",
    "description": "The served name of the adapter.",
}


def responses_of(model: str, *problems: str, secured: bool = True) -> Responses:
    """Return the responses of a route: 200 with the schema `model`, and its problems.

    secured: whether the route checks the token.
    """
    kinds = {*problems, *_EVERYWHERE, *(["unauthorized"] if secured else [])}
    return {
        200: content(model, JSON_TYPE, "Success."),
        **problem_responses(*sorted(kinds)),
    }


def content(model: str, media: str, description: str) -> dict[str, Any]:
    """Return a response or a body with the schema `model` and the content type `media`."""
    return {"description": description, "content": {media: {"schema": {"$ref": REF + model}}}}


def problem_responses(*kinds: str) -> Responses:
    """Return the responses of these kinds of problems, one for each status."""
    by_status: dict[int, list[str]] = {}
    for kind in kinds:
        by_status.setdefault(PROBLEMS[kind][0], []).append(kind)
    return {status: _problem(status, own) for status, own in sorted(by_status.items())}


def _problem(status: int, kinds: list[str]) -> dict[str, Any]:
    titles = " · ".join(PROBLEMS[kind][1] for kind in kinds)
    value = {"schema": {"$ref": f"{REF}ProblemDetails"}, "examples": {kind: _sample(kind) for kind in kinds}}
    headers = {429: ["Retry-After"], 503: ["Retry-After"], 401: ["WWW-Authenticate"]}.get(status, [])
    described = {name: {"schema": {"type": "string"}} for name in headers}
    return {
        "description": titles,
        "content": {MEDIA_TYPE: value},
        **({"headers": described} if headers else {}),
    }


def _sample(kind: str) -> dict[str, Any]:
    status, title = PROBLEMS[kind]
    return {
        "value": {
            "type": f"/problems/{kind}",
            "title": title,
            "status": status,
            "detail": "What is wrong, and what to do.",
            "instance": "9f86d081884c7d65",
        }
    }


def operation_extras(
    body: str | None = None, media: str = JSON_TYPE, *, named: bool = False, secured: bool = True
) -> dict[str, Any]:
    """Return the parts of an operation beside its responses.

    body: schema of the request's body; None without a body.
    named: whether the path has the name of an adapter.
    secured: whether the route checks the token.
    """
    extra: dict[str, Any] = {}
    if body is not None:
        extra["requestBody"] = {"required": True, **content(body, media, "JSON in UTF-8.")}
    if named:
        extra["parameters"] = [_NAME]
    if secured:
        extra["security"] = [{"token": []}, {}]
    return extra


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the API.

    handler: answers its requests; the first line of its docstring is the route's summary in the document.
    responses: its OpenAPI responses, by status.
    extra: the other parts of its OpenAPI operation.
    """

    method: str
    path: str
    handler: Handler
    responses: Responses
    extra: Mapping[str, Any] = field(default_factory=operation_extras)

    def operation(self) -> dict[str, Any]:
        """Return the OpenAPI operation of the route."""
        request_id = {
            "schema": {"type": "string"},
            "description": "The id of the request; the log has the same.",
        }
        responses = {}
        for status, response in self.responses.items():
            headers = {**response.get("headers", {}), "X-Request-Id": request_id}
            responses[str(status)] = {**response, "headers": headers}
        return {
            "summary": (self.handler.__doc__ or "").partition("\n")[0],
            "operationId": self.handler.__name__,
            "responses": responses,
            **self.extra,
        }


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the OpenAPI document of `routes`."""
    _, schemas = models_json_schema(
        [(model, "serialization") for model in MODELS], ref_template=REF + "{model}"
    )
    token = {"type": "http", "scheme": "bearer", "description": "Needed if the service has a token file."}
    paths: dict[str, Any] = defaultdict(dict)
    for route in routes:
        paths[route.path][route.method.lower()] = route.operation()
    return {
        "openapi": "3.1.0",
        "info": {"title": "OneTrunk", "description": DESCRIPTION, "version": version("onetrunk")},
        "paths": paths,
        "components": {"schemas": schemas["$defs"], "securitySchemes": {"token": token}},
    }
