"""Calls of replicas: to one that has the adapter ready, and again where a replica was lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError

from onetrunk.core.serving.cluster.replica import Outcome
from onetrunk.core.serving.errors import QueueFull
from onetrunk.core.serving.work import Input

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

_ATTEMPTS = 3
"""Replicas that a call may lose; an answer changes nothing, so it can be asked for again."""
_PAUSE = 0.05
"""Seconds until a stream asks again whether there is room."""
_log = logging.getLogger(__name__)


class Caller:
    """Has `replicas` answer. waiting: calls that may wait here for one that has room; refusals tell it."""

    def __init__(self, replicas: DeploymentHandle, waiting: int) -> None:
        self._replicas, self._waiting = replicas, waiting

    async def __call__(self, key: str, requests: list[Sequence[Input]], wait: bool) -> list[Outcome]:
        """Return what comes of each request. Raises what Ray raises, if replica after replica is lost."""
        lost = 0
        while True:
            response = self._replicas.options(multiplexed_model_id=key).answer.remote(requests, wait)
            try:
                outcomes: list[Outcome] = await response
            except asyncio.CancelledError:
                response.cancel()
                raise
            except BackPressureError:
                if not wait:
                    full = QueueFull(self._waiting, self._waiting, 1, "calls")
                    return [full] * len(requests)
                await asyncio.sleep(_PAUSE)
            except RayActorError as error:
                lost += 1
                if lost == _ATTEMPTS:
                    raise
                _log.warning("a replica was lost, its texts go to another one: %s", error)
            else:
                return outcomes
