"""Call batching in a gateway: concurrent requests for the same adapter share one call of a replica."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from onetrunk.core.serving.engine.requests import TextRequest

MAX_TEXTS = 64
"""A call that has this many texts accepts no more requests."""
_Outcome = TypeVar("_Outcome")
_Call = Callable[[str, list[Sequence[TextRequest]], bool], Awaitable[list[_Outcome]]]


@dataclass(slots=True, eq=False)
class _SharedCall(Generic[_Outcome]):
    """A call that still accepts requests, or is under way. requests: each with the future of its outcome."""

    requests: list[tuple[Sequence[TextRequest], asyncio.Future[_Outcome]]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    @property
    def abandoned(self) -> bool:
        return all(outcome.done() for _, outcome in self.requests)


class CallBatcher(Generic[_Outcome]):
    """Collects requests by the key of their first adapter, and makes one call for each group.

    Belongs to one event loop.

    call: takes the key, the texts of each request, and whether to wait for capacity; returns the outcome of each
        request.
    seconds: how long a call collects requests.
    """

    def __init__(self, call: _Call[_Outcome], seconds: float) -> None:
        self._call, self._seconds = call, seconds
        self._open: dict[tuple[str, bool], _SharedCall[_Outcome]] = {}  # by key and `wait`

    async def send(self, key: str, inputs: Sequence[TextRequest], wait: bool) -> _Outcome:
        """Return the outcome of a request. Raises what `call` raises.

        If all requests of a call are cancelled, the call is cancelled.
        """
        group = key, wait
        shared = self._open.get(group)
        if shared is None:
            shared = self._open[group] = _SharedCall()
            # In a context of its own: in the caller's, Ray would end the call with the caller's request.
            shared.task = asyncio.create_task(self._run(group, shared), context=Context())
        outcome: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()
        shared.requests.append((inputs, outcome))
        if sum(len(inputs) for inputs, _ in shared.requests) >= MAX_TEXTS:
            self._close(group, shared)
        try:
            return await outcome
        except asyncio.CancelledError:
            if shared.abandoned and shared.task is not None:
                self._close(group, shared)
                shared.task.cancel()
            raise

    def _close(self, group: tuple[str, bool], shared: _SharedCall[_Outcome]) -> None:
        """Accept no more requests in a call."""
        if self._open.get(group) is shared:
            del self._open[group]

    async def _run(self, group: tuple[str, bool], shared: _SharedCall[_Outcome]) -> None:
        await asyncio.sleep(self._seconds)
        self._close(group, shared)
        waiting = [(inputs, outcome) for inputs, outcome in shared.requests if not outcome.done()]
        key, wait = group
        try:
            outcomes = await self._call(key, [inputs for inputs, _ in waiting], wait)
        except Exception as error:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), outcome in zip(waiting, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)
