"""Calls of replicas through Ray, with retries if a replica is lost. No torch is imported."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_fixed

from onetrunk.core.serving.engine.errors import QueueFull

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle, DeploymentResponse

    from onetrunk.core.serving.cluster.messages import Outcome
    from onetrunk.core.serving.engine.requests import TextRequest

_ATTEMPTS = 3
"""Attempts of a call; each one that fails has lost a replica."""
_PAUSE_SECONDS = 0.05
"""Pause between attempts while there is no capacity."""
_log = logging.getLogger(__name__)


async def call_with_retry(call: Callable[[], DeploymentResponse], *, wait: bool) -> Any:
    """Return the result of a call of a deployment, repeated if its replica is lost.

    call: makes the call; must be safe to repeat.
    wait: repeat the call until there is capacity, instead of raising BackPressureError.
    Raises RayActorError if three replicas in succession are lost.
    """
    while_full = AsyncRetrying(
        retry=retry_if_exception_type(BackPressureError if wait else ()),
        wait=wait_fixed(_PAUSE_SECONDS),
        reraise=True,
    )
    while_lost = AsyncRetrying(
        retry=retry_if_exception_type(RayActorError),
        stop=stop_after_attempt(_ATTEMPTS),
        before_sleep=_warn,
        reraise=True,
    )
    return await while_lost(while_full, _call_once, call)


async def _call_once(call: Callable[[], DeploymentResponse]) -> Any:
    """Make the call, and cancel it on the replica if this task is cancelled."""
    response = call()
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


def _warn(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    _log.warning("a replica was lost; its call is repeated on another one: %s", error)


class ReplicaClient:
    """Sends requests to a replica that has their adapter loaded."""

    def __init__(self, replicas: DeploymentHandle) -> None:
        self._replicas = replicas

    async def __call__(self, key: str, requests: list[Sequence[TextRequest]], wait: bool) -> list[Outcome]:
        """Return the outcome of each request.

        key: that of the first adapter, by which Ray chooses the replica.
        wait: wait for capacity instead of returning QueueFull for each request.
        Raises RayActorError if three replicas in succession are lost.
        """
        replicas = self._replicas.options(multiplexed_model_id=key)
        try:
            outcomes: list[Outcome] = await call_with_retry(
                lambda: replicas.answer.remote(requests, wait), wait=wait
            )
        except BackPressureError as error:
            waiting, limit, *_ = error.args
            return [QueueFull(waiting, limit, 1, "calls")] * len(requests)
        return outcomes
