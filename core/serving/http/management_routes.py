"""Handlers for the operators of a service: `/v1/adapters`, `/v1/status`, health checks and `/metrics`."""

from __future__ import annotations

import re

from starlette.responses import JSONResponse, Response

from onetrunk.adapters.format.strict_json import is_unicode
from onetrunk.adapters.remotes.locations import is_location
from onetrunk.core.errors import OneTrunkError
from onetrunk.core.serving.engine.config import NAME
from onetrunk.core.serving.engine.errors import ShuttingDown
from onetrunk.core.serving.engine.status import AdapterStatus
from onetrunk.core.serving.http.predict_routes import parse_record
from onetrunk.core.serving.http.problems import MAX_NAME_CHARACTERS, Refusal
from onetrunk.core.serving.http.prometheus import CONTENT_TYPE
from onetrunk.core.serving.http.request import RequestContext
from onetrunk.core.serving.http.schemas import LoadRequest
from onetrunk.core.serving.http.service import HttpService
from onetrunk.core.tasks import JSONObject


async def list_adapters(service: HttpService, request: RequestContext) -> Response:
    """List the served adapters that the token may use."""
    served = [each for each in service.engine.adapters() if request.grant.covers(each.name)]
    return JSONResponse({"adapters": [_record(each) for each in served]})


async def show_adapter(service: HttpService, request: RequestContext) -> Response:
    """Show the adapter that is served under a name."""
    return JSONResponse(_record(service.engine.adapter(_name_in_path(request))))


async def put_adapter(service: HttpService, request: RequestContext) -> Response:
    """Load an adapter under a name, or swap the version served there; a failed load changes nothing."""
    name = _name_in_path(request)
    if not re.fullmatch(NAME, name):
        raise _invalid_name(name)
    reference = parse_record(LoadRequest, await service.body_reader.read_json(request)).ref
    if request.grant.adapters is not None and is_location(reference):
        # A pulled adapter would stay in the store, from which every token can load.
        detail = "a token with `adapters` patterns may load only from the store, not from a location"
        raise Refusal("forbidden", detail)
    if service.draining:
        raise ShuttingDown
    try:
        served, previous = await service.engine.load(name, reference)
    except OneTrunkError as error:
        service.log.write(
            "load-failed", "warning", id=request.id, adapter=name, reference=reference, why=str(error)
        )
        raise
    service.log.write("loaded", id=request.id, adapter=name, version=served.version, previous=previous)
    return JSONResponse({**_record(served), "previous": previous}, 201 if previous is None else 200)


async def delete_adapter(service: HttpService, request: RequestContext) -> Response:
    """Unload the adapter served under a name; accepted requests are still answered."""
    name = _name_in_path(request)
    await service.engine.unload(name)
    service.log.write("unloaded", id=request.id, adapter=name)
    return Response(status_code=204)


async def show_status(service: HttpService, request: RequestContext) -> Response:
    """Show the state of the service, its queue, its load and its limits."""
    engine = service.engine
    status, limits, info = engine.status(), engine.limits, engine.info
    value = {
        "status": "draining" if service.draining else status.state,
        "backbone": info.backbone,
        "device": info.device,
        "precision": info.precision,
        "uptime_seconds": round(status.uptime, 1),
        "queue": {
            "texts": status.waiting_texts,
            "tokens": status.waiting_tokens,
            "limit_tokens": status.limit_tokens,
            "wait_ms_p95": _milliseconds(status.wait_p95),
        },
        "requests_per_second": round(status.requests_per_second, 3),
        "adapters": sum(request.grant.covers(name) for name in engine.names()),
        "adapters_pending": sum(
            request.grant.covers(name) for name in engine.names() - engine.versions().keys()
        ),
        "limits": {
            "max_inputs": limits.inputs,
            "max_adapters": limits.adapters,
            "max_characters": limits.characters,
            "max_body_bytes": limits.body_bytes,
        },
    }
    return JSONResponse(value)


async def live(_service: HttpService, _request: RequestContext) -> Response:
    """Answer 200 as long as the process handles requests (liveness probe)."""
    return JSONResponse({"status": "alive"})


async def ready(service: HttpService, _request: RequestContext) -> Response:
    """Answer 200 if the service accepts requests now, 503 otherwise (readiness probe)."""
    state = "draining" if service.draining else service.engine.status().state
    return JSONResponse({"status": state}, 200 if state == "ready" else 503)


async def metrics(service: HttpService, request: RequestContext) -> Response:
    """Show the metrics in Prometheus's text format; those of adapters only for adapters that the token may use."""
    grant = request.grant
    text = service.metrics.render(None if grant.adapters is None else grant.covers)
    return Response(text, headers={"Content-Type": CONTENT_TYPE})


def _record(served: AdapterStatus) -> JSONObject:
    """Return a served adapter as an object of the schema `AdapterRecord`."""
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
        "p95_ms": _milliseconds(served.p95),
    }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1e3 * seconds, 2)


def _name_in_path(request: RequestContext) -> str:
    """Return the name in the path. Raises Refusal if it is invalid, or if the token may not use it."""
    name = request.params["name"]
    if not is_unicode(name) or len(name) > MAX_NAME_CHARACTERS:
        raise _invalid_name(name)
    request.grant.require(name)
    return name


def _invalid_name(name: str) -> Refusal:
    detail = f"{name[:MAX_NAME_CHARACTERS]!r} is not a valid served name; expected {NAME}"
    return Refusal("invalid-request", detail)
