"""The OpenAPI document: built from the routes, the schemas and the table of problems."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from pydantic.json_schema import models_json_schema

from onetrunk.core.serving.engine.config import NAME
from onetrunk.core.serving.http.problems import MEDIA_TYPE, PROBLEMS, Problem
from onetrunk.core.serving.http.request_context import JSON_TYPE
from onetrunk.core.serving.http.schemas import MODELS
from onetrunk.core.serving.http.service import Handler

DESCRIPTION = """Many text tasks on one frozen encoder: each text is answered by any of the served adapters.

Errors are problem details (RFC 9457). Every response has the id of its request in `X-Request-Id`."""
REF = "#/components/schemas/"
Responses = dict[int | str, Any]
"""OpenAPI responses by status."""
_EVERYWHERE = ("forbidden", "internal")
_SECURED = ("unauthorized",)
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


def content(model: str, description: str = "Success.", media: str = JSON_TYPE) -> dict[str, Any]:
    """Return a response or a body with the schema `model` and the content type `media`."""
    return {"description": description, "content": {media: {"schema": {"$ref": REF + model}}}}


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the API.

    handler: answers its requests; the first line of its docstring is the route's summary in the document.
    success: its OpenAPI responses that are not problems, by status.
    problems: kinds of its problems, in addition to those of all routes.
    body: the OpenAPI description of the request's body, if it has one.
    secured: whether it checks the token.
    """

    method: str
    path: str
    handler: Handler
    success: Responses
    problems: Sequence[str] = ()
    body: Mapping[str, Any] | None = None
    secured: bool = True

    def operation(self) -> dict[str, Any]:
        """Return the OpenAPI operation of the route."""
        problems = _problem_responses({*self.problems, *_EVERYWHERE, *(_SECURED if self.secured else ())})
        request_id = {
            "schema": {"type": "string"},
            "description": "The id of the request; the log has the same.",
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


def _problem_responses(kinds: set[str]) -> Responses:
    """Return the responses of these kinds of problems, one for each status."""
    by_status: dict[int, list[str]] = defaultdict(list)
    for kind in sorted(kinds):
        by_status[PROBLEMS[kind][0]].append(kind)
    return {status: _problem_response(status, own) for status, own in sorted(by_status.items())}


def _problem_response(status: int, kinds: Sequence[str]) -> dict[str, Any]:
    """Return the response of all kinds of problems with the same status."""
    examples = {kind: {"value": _example(kind)} for kind in kinds}
    headers = {429: ["Retry-After"], 503: ["Retry-After"], 401: ["WWW-Authenticate"]}.get(status, [])
    return {
        "description": " · ".join(PROBLEMS[kind][1] for kind in kinds),
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"{REF}ProblemDetails"}, "examples": examples}},
        "headers": {name: {"schema": {"type": "string"}} for name in headers},
    }


def _example(kind: str) -> dict[str, Any]:
    problem = Problem(kind, "What is wrong, and what to do.")
    return problem.to_json(instance="9f86d081884c7d65")


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
