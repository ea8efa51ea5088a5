"""The OpenAPI document: what each route takes and answers, all of its problems included."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from onetrunk.core.serving.engine.config import NAME
from onetrunk.core.serving.http.problems import MEDIA_TYPE, PROBLEMS
from onetrunk.core.serving.http.schemas import MODELS

REF = "#/components/schemas/"
Responses = dict[int | str, Any]
"""The answers of a route by their status."""
_EVERYWHERE = ("forbidden", "internal")
_BODY = (
    "malformed-json",
    "unsupported-media-type",
    "body-too-large",
    "body-too-slow",
    "invalid-request",
    "shutting-down",
)
INPUT_PROBLEMS = (*_BODY, "too-many-inputs", "text-too-long", "too-many-adapters", "unknown-adapter", "queue-full",
          "timeout", "adapter-unavailable")  # fmt: skip
"""Problems of a request with inputs."""
LOAD_PROBLEMS = (*_BODY, "queue-full", "unknown-reference", "adapter-rejected", "remote-unavailable")
"""Problems of a load."""
NAME_PROBLEMS = ("unknown-adapter", "invalid-request")
"""Problems of a request that names an adapter."""

_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": f"^{NAME}$"},
    "example": "ner",
    "description": "The name that the adapter serves under.",
}


def responses_of(model: str, *problems: str, secured: bool = True) -> Responses:
    """Return the `responses` of a route: `model`, and the problems that there can be."""
    kinds = {*problems, *_EVERYWHERE, *(["unauthorized"] if secured else [])}
    return {
        200: content(model, "application/json", "What was asked."),
        **problem_responses(*sorted(kinds)),
    }


def content(model: str, media: str, description: str) -> dict[str, Any]:
    """Return a response or body of this model and type."""
    return {"description": description, "content": {media: {"schema": {"$ref": REF + model}}}}


def problem_responses(*kinds: str) -> Responses:
    """Return the responses that these problems are, those of one status as one."""
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
            "detail": "What went wrong, and what to do.",
            "instance": "9f86d081884c7d65",
        }
    }


def operation_extras(
    body: str | None = None, media: str = "application/json", *, named: bool = False, secured: bool = True
) -> dict[str, Any]:
    """Return what a route adds to the document by hand: its body, and that it wants a token."""
    extra: dict[str, Any] = {}
    if body is not None:
        extra["requestBody"] = {"required": True, **content(body, media, "JSON in UTF-8.")}
    if named:
        extra["parameters"] = [_NAME]
    if secured:
        extra["security"] = [{"token": []}, {}]
    return extra


def document(app: FastAPI) -> dict[str, Any]:
    """Return the document of `app`, made at the first call."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=app.description,
            routes=app.routes,
        )
        _, schemas = models_json_schema(
            [(model, "serialization") for model in MODELS], ref_template=REF + "{model}"
        )
        token = {"type": "http", "scheme": "bearer", "description": "Where the service has a token file."}
        made["components"] = {"schemas": schemas["$defs"], "securitySchemes": {"token": token}}
        for operations in made["paths"].values():
            for operation in operations.values():
                _complete(operation)
        app.openapi_schema = made
    return app.openapi_schema


def _complete(operation: dict[str, Any]) -> None:
    """Describe the header that every response has."""
    for response in operation["responses"].values():
        header = {"schema": {"type": "string"}, "description": "The request's id, as in the log."}
        response.setdefault("headers", {})["X-Request-Id"] = header
