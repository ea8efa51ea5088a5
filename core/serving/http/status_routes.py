"""How the service does: for people, for load balancers and for Prometheus."""

from __future__ import annotations

from starlette.responses import Response

from onetrunk.core.serving.http.adapter_routes import milliseconds
from onetrunk.core.serving.http.json_codec import write_json
from onetrunk.core.serving.http.prometheus import CONTENT_TYPE
from onetrunk.core.serving.http.request_context import Call, Service, granted


async def show_status(service: Service, call: Call) -> Response:
    """Show state, queue, load and limits."""
    grant = granted(service, call)
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
            "wait_ms_p95": milliseconds(status.wait_p95),
        },
        "requests_per_second": round(status.requests_per_second, 3),
        "adapters": status.adapters
        if grant.adapters is None
        else sum(grant.covers(each.name) for each in engine.adapters()),
        "limits": {
            "max_inputs": limits.inputs,
            "max_adapters": limits.adapters,
            "max_characters": limits.characters,
            "max_body_bytes": limits.body_bytes,
        },
    }
    return Response(write_json(value), media_type="application/json")


async def live(_service: Service, _call: Call) -> Response:
    """Answer, which a process that hangs does not."""
    return Response(b'{"status":"alive"}', media_type="application/json")


async def ready(service: Service, _call: Call) -> Response:
    """Tell whether a request would be let in now."""
    state = "draining" if service.draining else service.engine.status().state
    body = write_json({"status": state})
    return Response(body, 200 if state == "ready" else 503, media_type="application/json")


async def metrics(service: Service, call: Call) -> Response:
    """Show the metrics in Prometheus's text format."""
    granted(service, call, "admin")
    return Response(service.metrics.page(), headers={"Content-Type": CONTENT_TYPE})
