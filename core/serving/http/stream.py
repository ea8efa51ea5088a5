"""Handler of `POST /v1/predict/stream`: JSON lines in, JSON lines out, in order, with a bounded number under way.

A client must read answers while it sends lines. Otherwise the unread answers fill the connection, and the service
stops reading lines (backpressure).
"""

from __future__ import annotations

import asyncio
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from onetrunk.adapters.format.strict_json import is_unicode
from onetrunk.core.serving.engine.errors import Busy, ShuttingDown
from onetrunk.core.serving.http.auth import Grant
from onetrunk.core.serving.http.body_reader import (
    ClientDisconnected,
    check_content_type,
    max_line_bytes,
    max_values,
    read_json,
)
from onetrunk.core.serving.http.predict_routes import Outcome, answer, encode_outcome
from onetrunk.core.serving.http.problems import Problem, Refusal, problem_of
from onetrunk.core.serving.http.request_context import RequestContext
from onetrunk.core.serving.http.service import HttpService, authorize

NDJSON = "application/x-ndjson"
GROUP_LINES = 16
"""Maximum number of lines that are answered together: those that have arrived at the same time."""
MAX_GROUPS = 8
"""Maximum number of groups under way."""


async def predict_stream(service: HttpService, request: RequestContext) -> Response:
    """Answer each line of the body with a line, in order; a wrong line gets a problem and the stream goes on."""
    grant = authorize(service, request, "predict")
    check_content_type(request, NDJSON)
    if service.draining:
        raise ShuttingDown
    request.inputs = 0
    return _StreamResponse(_Stream(service, request, grant))


class _StreamResponse(Response):
    """Sends the answers of a stream.

    Starlette's StreamingResponse would read, and lose, parts of the body while it listens for a disconnect.
    """

    media_type = NDJSON

    def __init__(self, stream: _Stream) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._stream = stream

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._stream.answers()) as answers:
            async for lines in answers:
                await send({"type": "http.response.body", "body": lines, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that was read. number: from 1. value: its JSON value, or the Refusal of a line that is not JSON."""

    number: int
    value: Any

    @property
    def id(self) -> dict[str, object]:
        """The line's `id` as a dict with this key; empty if there is none, or if it is not a string or a number."""
        given = self.value.get("id") if isinstance(self.value, dict) else None
        valid = isinstance(given, str | int | float) and not isinstance(given, bool)
        return {"id": given} if valid and (not isinstance(given, str) or is_unicode(given)) else {}

    @property
    def input(self) -> Any:
        """The line without its `id`."""
        if isinstance(self.value, dict):
            return {key: value for key, value in self.value.items() if key != "id" or not self.id}
        return self.value


@dataclass(frozen=True, slots=True)
class _Group:
    """Lines that are answered together. last: number of the last line. answers: computes the lines to send."""

    last: int
    answers: asyncio.Task[bytes]


class _Stream:
    """One stream. A reader task reads lines and starts a task for each group; `answers` awaits these in order."""

    def __init__(self, service: HttpService, request: RequestContext, grant: Grant) -> None:
        self._service, self._request, self._grant = service, request, grant
        self._groups: asyncio.Queue[_Group | None] = asyncio.Queue(MAX_GROUPS)
        self._tasks: set[asyncio.Task[bytes]] = set()
        self._max_values = max_values(service.engine.limits, inputs=1)
        self._number = self._answered = 0

    async def answers(self) -> AsyncGenerator[bytes]:
        """Yield the answers of each group as lines; a stream that ends early has a problem as its last line.

        Raises ClientDisconnected.
        """
        reader = asyncio.create_task(self._read())
        self._service.stream_readers.add(reader)
        try:
            while (group := await self._groups.get()) is not None:
                lines = await self._unless_disconnected(group.answers, reader)
                self._answered = group.last
                yield lines
            await asyncio.wait([reader])
            if reader.cancelled():
                yield self._last_line(problem_of(ShuttingDown()))
            elif isinstance(error := reader.exception(), Refusal):
                yield self._last_line(error.problem)
            elif error is not None:
                raise error
        finally:
            self._service.stream_readers.discard(reader)
            for task in (reader, *self._tasks):
                task.cancel()
            while not self._groups.empty():  # a full queue would block the reader's last `put`
                self._groups.get_nowait()

    def _last_line(self, problem: Problem) -> bytes:
        """Return the line that says why the stream ends. Its `line` is the first line without an answer."""
        return encode_outcome(self._service, problem, line=self._answered + 1) + b"\n"

    async def _unless_disconnected(self, group: asyncio.Task[bytes], reader: asyncio.Task[None]) -> bytes:
        """Return the answers of a group. Raises ClientDisconnected at once when the client disconnects.

        The reader notices a disconnect while it reads; while it waits for a free group, the connection does.
        """
        disconnected = self._request.disconnected
        while True:
            read_failed = reader.done() and not reader.cancelled() and reader.exception()
            if disconnected.done() or isinstance(read_failed, ClientDisconnected):
                raise ClientDisconnected
            if group.done():
                return group.result()
            waited: list[asyncio.Future[Any]] = [group, disconnected, *([] if reader.done() else [reader])]
            await asyncio.wait(waited, return_when=FIRST_COMPLETED)

    async def _read(self) -> None:
        """Start groups until the body ends, the client disconnects or the service shuts down."""
        try:
            async for lines in self._lines():
                for start in range(0, len(lines), GROUP_LINES):
                    await self._start(lines[start : start + GROUP_LINES])
        finally:
            await self._groups.put(None)

    async def _start(self, lines: Sequence[_Line]) -> None:
        """Start a group; wait while `MAX_GROUPS` are under way."""
        task = asyncio.create_task(self._answer(lines))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await self._groups.put(_Group(lines[-1].number, task))

    async def _answer(self, lines: Sequence[_Line]) -> bytes:
        """Return the answers to a group, one line each."""
        self._request.inputs = (self._request.inputs or 0) + len(lines)
        outcomes = await self._outcomes([line.input for line in lines])
        sent = []
        for line, outcome in zip(lines, outcomes, strict=True):
            members = {**line.id, **({"line": line.number} if isinstance(outcome, Problem) else {})}
            sent.append(encode_outcome(self._service, outcome, **members))
        return b"\n".join(sent) + b"\n"

    async def _outcomes(self, inputs: Sequence[Any]) -> Sequence[Outcome]:
        """Return the outcome of each input; waits for capacity in the queue."""
        try:
            return await answer(self._service, inputs, self._grant, wait=True)
        except Busy as error:
            self._service.metrics.failed(error)
            return [problem_of(error)] * len(inputs)

    async def _lines(self) -> AsyncIterator[list[_Line]]:
        """Yield the lines that each part of the body completes."""
        limit, more = max_line_bytes(self._service.engine.limits), True
        rest: bytearray | None = bytearray()  # of a line that is not complete; None once it is over the limit
        while more:
            part = await self._service.body_reader.read_part(self._request)
            more = part.get("more_body", False)
            first, *others = part.get("body", b"").split(b"\n")
            if rest is not None:
                rest += first
                rest = rest if len(rest) <= limit else None
            complete = [rest, *others] if not more else [rest, *others[:-1]] if others else []
            if others:
                rest = bytearray(others[-1])
            if lines := [line for data in complete if (line := self._line(data, limit)) is not None]:
                yield lines

    def _line(self, data: bytes | bytearray | None, limit: int) -> _Line | None:
        """Return the next line; None if it is empty. data: None for a line that was over the limit."""
        self._number += 1
        if data is None or len(data) > limit:
            detail = f"the line has over {limit} bytes, the limit; shorten its text"
            return _Line(self._number, Refusal("body-too-large", detail, most=limit))
        if not data.strip():
            return None
        try:
            return _Line(self._number, read_json(bytes(data), self._max_values))
        except Refusal as refusal:
            return _Line(self._number, refusal)
