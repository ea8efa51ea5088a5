"""Calls of Ray's deployments that outlive the loss of a replica. No torch is imported."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_fixed

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentResponse

_ATTEMPTS = 3
"""Replicas that a call may lose."""
_PAUSE = 0.05
"""Seconds until a call that waits asks again whether there is room."""
_log = logging.getLogger(__name__)


async def insisted(call: Callable[[], DeploymentResponse], *, wait: bool) -> Any:
    """Return what a call comes to, made again where its replica was lost; it must be one that can be.

    wait: for room, if there is none. Raises BackPressureError where it must not, and what Ray raises once replica
    after replica was lost.
    """
    while_full = AsyncRetrying(
        retry=retry_if_exception_type(BackPressureError if wait else ()),
        wait=wait_fixed(_PAUSE),
        reraise=True,
    )
    while_lost = AsyncRetrying(
        retry=retry_if_exception_type(RayActorError),
        stop=stop_after_attempt(_ATTEMPTS),
        before_sleep=_warn,
        reraise=True,
    )
    return await while_lost(while_full, _once, call)


async def _once(call: Callable[[], DeploymentResponse]) -> Any:
    response = call()
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


def _warn(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    _log.warning("a replica was lost, what it was asked goes to another one: %s", error)
