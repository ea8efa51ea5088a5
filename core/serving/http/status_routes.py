"""How the service does: for people, for load balancers and for Prometheus."""

from __future__ import annotations

from starlette.responses import Response

from onetrunk.core.serving.http.adapter_routes import milliseconds
from onetrunk.core.serving.http.json_codec import write_json
from onetrunk.core.serving.http.prometheus import CONTENT_TYPE
from onetrunk.core.serving.http.request_context import HttpService, RequestContext, authorize


async def show_status(service: HttpService, request: RequestContext) -> Response:
    """Show state, queue, load and limits."""
    grant = authorize(service, request)
    engine = service.engine
    status, limits, about = engine.status(), engine.limits, engine.about
    value = {
        "status": "draining" if service.draining else status.state,
        "backbone": about.backbone,
        "device": about.device,
        "precision": about.precision,
        "uptime_seconds": round(status.uptime, 1),
        "queue": {
            "texts": status.waiting_texts,
            "tokens": status.waiting_tokens,
            "limit_tokens": status.limit_tokens,
            "wait_ms_p95": milliseconds(status.wait_p95),
        },
        "requests_per_second": round(status.requests_per_second, 3),
        "adapters": status.adapters
        if grant.adapters is None
        else sum(grant.covers(each.name) for each in engine.served()),
        "limits": {
            "max_inputs": limits.inputs,
            "max_adapters": limits.adapters,
            "max_characters": limits.characters,
            "max_body_bytes": limits.body_bytes,
        },
    }
    return Response(write_json(value), media_type="application/json")


async def live(_service: HttpService, _request: RequestContext) -> Response:
    """Answer, which a process that hangs does not."""
    return Response(b'{"status":"alive"}', media_type="application/json")


async def ready(service: HttpService, _request: RequestContext) -> Response:
    """Tell whether a request would be let in now."""
    state = "draining" if service.draining else service.engine.status().state
    body = write_json({"status": state})
    return Response(body, 200 if state == "ready" else 503, media_type="application/json")


async def metrics(service: HttpService, request: RequestContext) -> Response:
    """Show the metrics in Prometheus's text format."""
    authorize(service, request, "admin")
    return Response(service.metrics.render(), headers={"Content-Type": CONTENT_TYPE})
