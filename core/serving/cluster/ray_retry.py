"""Calls of Ray's deployments that outlive the loss of a replica. No torch is imported."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentResponse

_ATTEMPTS = 3
"""Replicas that a call may lose."""
_PAUSE = 0.05
"""Seconds until a call that waits asks again whether there is room."""
_log = logging.getLogger(__name__)


async def call_with_retry(call: Callable[[], DeploymentResponse], *, wait: bool) -> Any:
    """Return what a call comes to, made again where its replica was lost; it must be one that can be.

    wait: for room, if there is none. Raises BackPressureError where it must not, and what Ray raises once replica
    after replica was lost.
    """
    lost = 0
    while True:
        response = call()
        try:
            return await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        except BackPressureError:
            if not wait:
                raise
            await asyncio.sleep(_PAUSE)
        except RayActorError as error:
            lost += 1
            if lost == _ATTEMPTS:
                raise
            _log.warning("a replica was lost, what it was asked goes to another one: %s", error)
