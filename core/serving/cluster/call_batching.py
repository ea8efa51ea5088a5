"""Ways from a gateway to replicas: requests for the same adapter that come at about the same time share a call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from onetrunk.core.serving.engine.requests import TextRequest

FULL = 64
"""Inputs from which a call takes no more."""
_Outcome = TypeVar("_Outcome")
_Call = Callable[[str, list[Sequence[TextRequest]], bool], Awaitable[list[_Outcome]]]


@dataclass(slots=True, eq=False)
class _Shared(Generic[_Outcome]):
    """A call that is about to be made: the requests in it, each with the future of its outcome."""

    requests: list[tuple[Sequence[TextRequest], asyncio.Future[_Outcome]]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    @property
    def given_up(self) -> bool:
        return all(outcome.done() for _, outcome in self.requests)


class CallBatcher(Generic[_Outcome]):
    """Collects requests by the key of their first adapter. Belongs to one event loop.

    call: takes a key, the inputs of each request and whether to wait for room; returns the outcome of each.
    seconds: how long a request waits for others.
    """

    def __init__(self, call: _Call[_Outcome], seconds: float) -> None:
        self._call, self._seconds = call, seconds
        self._open: dict[tuple[str, bool], _Shared[_Outcome]] = {}

    async def send(self, key: str, inputs: Sequence[TextRequest], wait: bool) -> _Outcome:
        """Return what comes of a request. Raises what `call` raises."""
        line = key, wait
        shared = self._open.get(line)
        if shared is None:
            shared = self._open[line] = _Shared()
            # In a context of its own: in the caller's it would be part of one request, and end with it.
            shared.task = asyncio.create_task(self._make(line, shared), context=Context())
        outcome: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()
        shared.requests.append((inputs, outcome))
        if sum(len(inputs) for inputs, _ in shared.requests) >= FULL:
            self._close(line, shared)
        try:
            return await outcome
        except asyncio.CancelledError:
            if shared.given_up and shared.task is not None:
                self._close(line, shared)
                shared.task.cancel()
            raise

    def _close(self, line: tuple[str, bool], shared: _Shared[_Outcome]) -> None:
        """Let no more requests into a call."""
        if self._open.get(line) is shared:
            del self._open[line]

    async def _make(self, line: tuple[str, bool], shared: _Shared[_Outcome]) -> None:
        await asyncio.sleep(self._seconds)
        self._close(line, shared)
        waiting = [(inputs, outcome) for inputs, outcome in shared.requests if not outcome.done()]
        try:
            outcomes = await self._call(line[0], [inputs for inputs, _ in waiting], line[1])
        except Exception as error:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), outcome in zip(waiting, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)
