"""The application that `serve run` starts; see docs/scaling.md.

Three deployments. `Gateway`: the HTTP side of the service. `Trunk`: the engines. `Names`: one small process that
keeps which version serves under which name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from onetrunk.core.serving.cluster.name_keeper import Keeper
from onetrunk.core.serving.cluster.ray_args import settings_of
from onetrunk.core.serving.cluster.replica import Replica
from onetrunk.core.serving.engine.config import ServeConfig

_WAITING = 128
"""Calls that may wait in a gateway for a replica that has room."""
_ROUTER = "onetrunk.core.serving.cluster.router.WarmUnlessBusy"


class Gateway:
    """Answers HTTP as `adapters serve` does."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, replicas: DeploymentHandle, keeper: DeploymentHandle, config: ServeConfig
    ) -> None:
        from onetrunk.core.serving.cluster.gateway_backend import ClusterDesk
        from onetrunk.core.serving.http.prometheus import Metrics

        self._config = config
        self._desk = ClusterDesk(replicas, keeper, config.limits_on("cpu"), Metrics())
        await self._desk.begin()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Return the application; Ray calls this once."""
        from onetrunk.core.serving.cluster.proxy_middleware import Proxied
        from onetrunk.core.serving.http.app import make_app
        from onetrunk.core.serving.http.auth import Access

        file = self._config.token_file
        access = Access() if file is None else Access.read(Path(file))
        return Proxied(make_app(self._desk, access=access), local=access.is_open)

    def check_health(self) -> None:
        """Raise RuntimeError if changes of the names are no longer heard of; Ray then starts another gateway."""
        if not self._desk.alive:
            raise RuntimeError("changes of the names are not heard of; the log says why")


def application(args: Mapping[str, Any]) -> serve.Application:
    """Return the application.

    args: `config`, the path of a serve.toml, where all machines must find it; `residents`, versions that a
    replica keeps ready. Raises UsageError.
    """
    config, residents = settings_of(args)
    origin = hashlib.sha256(repr((config, residents)).encode()).hexdigest()
    replicas = serve.deployment(
        Replica,
        name="Trunk",
        max_ongoing_requests=32,
        max_queued_requests=_WAITING,
        request_router_config=RequestRouterConfig(request_router_class=_ROUTER),
        graceful_shutdown_timeout_s=config.limits_on("cpu").request_seconds + 5,
        logging_config={"enable_access_log": False},
    ).bind(config, residents)
    keeper = serve.deployment(
        Keeper,
        name="Names",
        num_replicas=1,
        max_ongoing_requests=10_000,
        ray_actor_options={"num_cpus": 0},
        logging_config={"enable_access_log": False},
    ).bind(replicas, config.adapters, origin)
    return serve.deployment(
        serve.ingress()(Gateway),
        name="Gateway",
        max_ongoing_requests=1000,
        graceful_shutdown_timeout_s=config.limits_on("cpu").request_seconds + 5,
        logging_config={"enable_access_log": False},
    ).bind(replicas, keeper, config)
