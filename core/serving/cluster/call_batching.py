"""Call batching in a gateway: concurrent requests for the same adapter share one call to a replica."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeAlias, TypeVar

from onetrunk.core.serving.engine.requests import TextRequest

MAX_TEXTS = 64
"""A call that has this many texts accepts no more requests."""
_Outcome = TypeVar("_Outcome")
_Call = Callable[[str, list[Sequence[TextRequest]], bool], Awaitable[list[_Outcome]]]
_Requests: TypeAlias = dict[object, Sequence[TextRequest]]
"""The texts of each request of a call; the keys identify the requests. A cancelled request is removed."""


class CallBatcher(Generic[_Outcome]):
    """Collects the requests that have the same first adapter, and makes one call to a replica for all of them.

    A key identifies the version of that adapter (`NameEntry.key`).

    Belongs to one event loop.

    call: makes a call; takes the key, the texts of each request, and whether to wait for capacity, and returns the
        outcome of each request.
    seconds: time for which requests are collected before the call is made.
    """

    def __init__(self, call: _Call[_Outcome], seconds: float) -> None:
        self._call, self._seconds = call, seconds
        # The calls that accept requests, by key and `wait`; the task returns the outcomes by request.
        self._open: dict[tuple[str, bool], tuple[_Requests, asyncio.Task[dict[object, _Outcome]]]] = {}

    async def send(self, key: str, inputs: Sequence[TextRequest], wait: bool) -> _Outcome:
        """Return the outcome of a request. Raises what `call` raises.

        If all requests of a call are cancelled, the call is cancelled.
        """
        group = key, wait
        if group not in self._open:
            new: _Requests = {}
            # In a context of its own: in the caller's context, Ray would end the call when the caller's request
            # ends.
            self._open[group] = new, asyncio.create_task(self._run(group, new), context=Context())
        requests, task = self._open[group]
        request = object()
        requests[request] = inputs
        if sum(map(len, requests.values())) >= MAX_TEXTS:
            self._close(group, requests)
        try:
            return (await asyncio.shield(task))[request]
        except asyncio.CancelledError:
            del requests[request]
            if not requests:
                self._close(group, requests)
                task.cancel()
            raise

    def _close(self, group: tuple[str, bool], requests: _Requests) -> None:
        """Accept no more requests in a call."""
        if group in self._open and self._open[group][0] is requests:
            del self._open[group]

    async def _run(self, group: tuple[str, bool], requests: _Requests) -> dict[object, _Outcome]:
        await asyncio.sleep(self._seconds)
        self._close(group, requests)
        called = dict(requests)
        outcomes = await self._call(group[0], list(called.values()), group[1])
        return dict(zip(called, outcomes, strict=True))
