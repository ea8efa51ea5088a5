"""Calls of Ray deployments, repeated if the process that answers is lost. Ray is imported at the first call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_fixed

from onetrunk.core.serving.engine.errors import QueueFull

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentResponse

_ATTEMPTS = 3
"""Maximum number of attempts of a call whose replica is lost."""
_PAUSE_SECONDS = 0.05
"""Pause between attempts while there is no capacity."""
_log = logging.getLogger(__name__)


async def call_with_retry(call: Callable[[], DeploymentResponse], *, wait: bool) -> Any:
    """Return the result of a call. If the replica that answers it is lost, repeat the call on another one.

    call: makes the call; it must be safe to repeat.
    wait: repeat the call until there is capacity, instead of raising QueueFull.
    Raises RayActorError if three replicas are lost, one after the other.
    """
    from ray.exceptions import RayActorError
    from ray.serve.exceptions import BackPressureError

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
    try:
        return await while_lost(while_full, _call_once, call)
    except BackPressureError as error:
        waiting, limit, *_ = error.args
        raise QueueFull(waiting, limit, 1, "calls") from None


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
