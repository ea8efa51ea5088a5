"""The application that the command `serve run` of Ray starts; docs/scaling.md explains it.

It has three deployments. `Gateway` accepts HTTP requests. `Trunk` has the replicas, which compute the answers.
`Names` is the name service, one small process that stores which version is served under which name.
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

from onetrunk.core.serving.cluster.name_service import NameServiceDeployment
from onetrunk.core.serving.cluster.ray_args import read_arguments
from onetrunk.core.serving.cluster.replica import NAME_SERVICE, Replica
from onetrunk.core.serving.engine.config import ServeConfig

_MAX_QUEUED_CALLS = 128
"""Maximum number of calls that wait in a gateway for a replica with capacity."""
_ROUTER = "onetrunk.core.serving.cluster.router.WarmReplicaRouter"


class Gateway:
    """Serves the same HTTP API as `adapters serve`."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, replicas: DeploymentHandle, names: DeploymentHandle, config: ServeConfig
    ) -> None:
        from onetrunk.core.serving.cluster.gateway_backend import RayBackend
        from onetrunk.core.serving.http.prometheus import Metrics

        self._config = config
        self._backend = RayBackend(replicas, names, config.limits_on("cpu"), Metrics())
        await self._backend.begin()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Return the ASGI application; Ray calls this once."""
        from onetrunk.core.serving.cluster.proxy_middleware import ProxyMiddleware
        from onetrunk.core.serving.http.app import App
        from onetrunk.core.serving.http.auth import Access
        from onetrunk.core.serving.http.cors import check_origins, with_cors

        file = self._config.token_file
        access = Access() if file is None else Access.read(Path(file))
        check_origins(self._config.cors_origins, has_tokens=not access.is_open)
        app = ProxyMiddleware(App(self._backend, access=access), local=access.is_open)
        return with_cors(app, self._config.cors_origins)

    def check_health(self) -> None:
        """Raise RuntimeError if the gateway does not receive updates of the names; Ray then replaces it."""
        if not self._backend.alive:
            raise RuntimeError("the gateway has stopped receiving updates of the names; the log says why")


def application(args: Mapping[str, Any]) -> serve.Application:
    """Return the application.

    args: `config`, the absolute path of a serve.toml, which must be the same on every machine;
        `max_loaded_versions`, the number of adapter versions that a replica keeps loaded. Both are optional.
    Raises UsageError for an invalid argument or file.
    """
    config, max_loaded = read_arguments(args)
    origin = hashlib.sha256(repr((config, max_loaded)).encode()).hexdigest()
    replicas = serve.deployment(
        Replica,
        name="Trunk",
        max_ongoing_requests=32,
        max_queued_requests=_MAX_QUEUED_CALLS,
        request_router_config=RequestRouterConfig(request_router_class=_ROUTER),
        graceful_shutdown_timeout_s=config.limits_on("cpu").request_seconds + 5,
        logging_config={"enable_access_log": False},
    ).bind(config, max_loaded)
    names = serve.deployment(
        NameServiceDeployment,
        name=NAME_SERVICE,
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
    ).bind(replicas, names, config)
