"""`/v1/adapters`: which adapters serve, and loads, swaps and unloads of them."""

from __future__ import annotations

import re

from starlette.responses import Response

from onetrunk.adapters.format.strict_json import is_unicode
from onetrunk.adapters.remotes.locations import is_location
from onetrunk.core.errors import OneTrunkError
from onetrunk.core.serving.engine.config import NAME
from onetrunk.core.serving.engine.errors import ShuttingDown, UnknownName
from onetrunk.core.serving.engine.status import Served
from onetrunk.core.serving.http.auth import Grant
from onetrunk.core.serving.http.json_codec import write_json
from onetrunk.core.serving.http.predict_routes import parse_request, redacted
from onetrunk.core.serving.http.problems import Refusal
from onetrunk.core.serving.http.request_context import HttpService, RequestContext, authorize
from onetrunk.core.serving.http.schemas import LoadRequest
from onetrunk.core.tasks import JSONObject

_NAME = re.compile(NAME)


async def list_adapters(service: HttpService, request: RequestContext) -> Response:
    """List what is served, as far as the token may use it."""
    grant = authorize(service, request)
    served = [record(each) for each in service.engine.served() if grant.covers(each.name)]
    return _json({"adapters": served})


async def show_adapter(service: HttpService, request: RequestContext) -> Response:
    """Show what serves under a name."""
    name, grant = _named(service, request, None)
    return _json(record(_one(service, name, grant)))


async def put_adapter(service: HttpService, request: RequestContext) -> Response:
    """Load an adapter, or swap the one that serves under the name; if that fails nothing has changed."""
    name, grant = _named(service, request, "admin")
    if not _NAME.fullmatch(name):
        raise Refusal("invalid-request", f"{name[:100]!r} is no name to serve as; expected {NAME}")
    reference = parse_request(LoadRequest, await service.body_reader.read_json(request)).ref
    if grant.adapters is not None and is_location(reference):
        # Anything that is pulled stays in the store, which all tokens share.
        raise Refusal("forbidden", "a token for some names may not load from a location, only from the store")
    if service.draining:
        raise ShuttingDown
    try:
        served, previous = await service.engine.load(name, reference)
    except OneTrunkError as error:
        service.log.write(
            "load-failed",
            "warning",
            id=request.id,
            adapter=name,
            reference=reference,
            why=str(error),
        )
        raise redacted(error, grant) from None
    service.log.write("loaded", id=request.id, adapter=name, version=served.version, previous=previous)
    return _json({**record(served), "previous": previous}, 201 if previous is None else 200)


async def delete_adapter(service: HttpService, request: RequestContext) -> Response:
    """Take an adapter out of service; what is under way is answered."""
    name, grant = _named(service, request, "admin")
    try:
        await service.engine.unload(name)
    except UnknownName as error:
        raise redacted(error, grant) from None
    service.log.write("unloaded", id=request.id, adapter=name)
    return Response(status_code=204)


def record(served: Served) -> JSONObject:
    """Return what clients are told of an adapter."""
    return {
        "name": served.name,
        "version": served.version,
        "ref": served.reference,
        "task": served.task,
        "labels": list(served.labels),
        "tier": served.tier,
        "since": served.since.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "requests": served.requests,
        "requests_per_second": round(served.requests_per_second, 3),
        "p95_ms": milliseconds(served.p95),
    }


def milliseconds(seconds: float | None) -> float | None:
    """Return seconds as milliseconds with two digits."""
    return None if seconds is None else round(1e3 * seconds, 2)


def _named(service: HttpService, request: RequestContext, scope: str | None) -> tuple[str, Grant]:
    """Return the name in the path, which the token may use, and what the token gives. Raises Refusal."""
    grant = authorize(service, request, scope)
    name = str(request.params["name"])
    if not is_unicode(name) or len(name) > 100:
        raise Refusal("invalid-request", f"{name[:100]!r} is no name of an adapter")
    grant.require(name)
    return name, grant


def _one(service: HttpService, name: str, grant: Grant) -> Served:
    try:
        return service.engine.one(name)
    except UnknownName as error:
        raise redacted(error, grant) from None


def _json(value: JSONObject, status: int = 200) -> Response:
    return Response(write_json(value), status, media_type="application/json")
