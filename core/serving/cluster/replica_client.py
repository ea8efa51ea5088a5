"""Calls of replicas, to one that has the adapter ready."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray.serve.exceptions import BackPressureError

from onetrunk.core.serving.cluster.messages import Outcome
from onetrunk.core.serving.cluster.ray_retry import call_with_retry
from onetrunk.core.serving.engine.errors import QueueFull
from onetrunk.core.serving.engine.requests import TextRequest

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle


class ReplicaClient:
    """Has `replicas` answer."""

    def __init__(self, replicas: DeploymentHandle) -> None:
        self._replicas = replicas

    async def __call__(self, key: str, requests: list[Sequence[TextRequest]], wait: bool) -> list[Outcome]:
        """Return what comes of each request. Raises what Ray raises, if replica after replica is lost."""
        replicas = self._replicas.options(multiplexed_model_id=key)
        try:
            outcomes: list[Outcome] = await call_with_retry(
                lambda: replicas.answer.remote(requests, wait), wait=wait
            )
        except BackPressureError as error:
            waiting, most, *_ = error.args
            return [QueueFull(waiting, most, 1, "calls")] * len(requests)
        return outcomes
