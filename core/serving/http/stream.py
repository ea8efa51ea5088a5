"""Handler of `POST /v1/predict/stream`, which answers each line of JSON with a line of JSON, in the same order.

A bounded number of lines is answered at a time. A client must read answers while it sends lines: otherwise the
unread answers fill the buffers of the connection, and the service stops reading lines (backpressure).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from onetrunk.adapters.format.strict_json import is_unicode
from onetrunk.core.serving.engine.errors import Busy, ShuttingDown
from onetrunk.core.serving.http.predict_routes import answer, encode_outcome
from onetrunk.core.serving.http.problems import Problem, Refusal, problem_of
from onetrunk.core.serving.http.request import (
    RequestContext,
    check_content_type,
    max_line_bytes,
    max_values,
    read_json,
)
from onetrunk.core.serving.http.service import HttpService

NDJSON = "application/x-ndjson"
GROUP_LINES = 16
"""Maximum number of lines in a group. The lines of a group arrive at the same time, and are answered together."""
MAX_GROUPS = 8
"""Maximum number of groups that are computed or wait to be sent, not counting the group that is sent next."""


async def predict_stream(service: HttpService, request: RequestContext) -> Response:
    """Answer each line of the body with a line, in order; a wrong line gets a problem and the stream goes on."""
    check_content_type(request, NDJSON)
    if service.draining:
        raise ShuttingDown
    request.inputs = 0
    return _StreamResponse(_Stream(service, request).answers(), media_type=NDJSON)


class _StreamResponse(StreamingResponse):
    """Sends the answers of a stream. Starlette's own method would read, and lose, parts of the body."""

    body_iterator: AsyncGenerator[bytes]

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.body_iterator):
            await self.stream_response(send)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that was read. number: from 1. value: its JSON value, or the Refusal if it is not JSON."""

    number: int
    value: Any

    @property
    def id(self) -> dict[str, object]:
        """The key `id` and its value; empty without an `id`, or if it is neither a string nor a number."""
        given = self.value.get("id") if isinstance(self.value, dict) else None
        valid = isinstance(given, str | int | float) and not isinstance(given, bool)
        return {"id": given} if valid and (not isinstance(given, str) or is_unicode(given)) else {}

    @property
    def input(self) -> Any:
        """The line without a valid `id`."""
        if isinstance(self.value, dict):
            return {key: value for key, value in self.value.items() if key != "id" or not self.id}
        return self.value


_Group: TypeAlias = asyncio.Task[tuple[int, bytes]]
"""The task that answers a group of lines with `_Stream._answer`."""


class _Stream:
    """One stream.

    A reader task reads lines, and starts a task for each group of lines. `answers` awaits these tasks in order.
    """

    def __init__(self, service: HttpService, request: RequestContext) -> None:
        self._service, self._request = service, request
        self._groups: asyncio.Queue[_Group | None] = asyncio.Queue()  # None: the reader has ended
        self._capacity = asyncio.Semaphore(MAX_GROUPS)
        self._running: set[_Group] = set()
        self._max_values = max_values(service.engine.limits, inputs=1)
        self._most_bytes = service.engine.limits.response_bytes // MAX_GROUPS
        self._number = 0  # of the line that was read last
        self._end: Exception | None = ShuttingDown()  # why the reader stops early; a shutdown cancels it

    async def answers(self) -> AsyncGenerator[bytes]:
        """Yield the lines with the answers of each group. Raises ClientDisconnect.

        If the stream ends early, the last line is a problem; its `line` is the first line without an answer.
        """
        reader = asyncio.create_task(self._read())
        reader.add_done_callback(lambda _: self._groups.put_nowait(None))
        self._service.stream_readers.add(reader)
        disconnected, answered = self._request.disconnected, 0
        try:
            while (group := await self._groups.get()) is not None:
                self._capacity.release()
                waited: list[asyncio.Future[Any]] = [group, disconnected]
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if disconnected.done():
                    raise ClientDisconnect
                last, lines = group.result()
                yield lines
                answered = last
            if not reader.cancelled():
                reader.result()  # raises an unexpected exception
            if isinstance(self._end, ClientDisconnect):
                raise self._end
            if self._end is not None:
                yield encode_outcome(self._service, problem_of(self._end), line=answered + 1) + b"\n"
        finally:
            self._service.stream_readers.discard(reader)
            for task in (reader, *self._running):
                task.cancel()

    async def _read(self) -> None:
        """Start groups until the body ends, the client disconnects or the service shuts down."""
        try:
            async for lines in self._lines():
                for start in range(0, len(lines), GROUP_LINES):
                    await self._capacity.acquire()
                    group = asyncio.create_task(self._answer(lines[start : start + GROUP_LINES]))
                    self._running.add(group)
                    group.add_done_callback(self._running.discard)
                    self._groups.put_nowait(group)
            self._end = None
        except (ClientDisconnect, Refusal) as error:
            self._end = error

    async def _answer(self, lines: Sequence[_Line]) -> tuple[int, bytes]:
        """Return the number of the last line of a group, and the lines with the answers."""
        self._request.inputs = (self._request.inputs or 0) + len(lines)
        inputs = [line.input for line in lines]
        try:
            outcomes = await answer(
                self._service, inputs, self._request, wait=True, most_bytes=self._most_bytes
            )
        except Busy as error:
            self._service.metrics.failed(error)
            outcomes = [problem_of(error)] * len(inputs)
        sent = []
        for line, outcome in zip(lines, outcomes, strict=True):
            members = {**line.id, **({"line": line.number} if isinstance(outcome, Problem) else {})}
            sent.append(encode_outcome(self._service, outcome, **members))
        return lines[-1].number, b"\n".join(sent) + b"\n"

    async def _lines(self) -> AsyncIterator[list[_Line]]:
        """Yield the lines that each part of the body completes."""
        limit, more = max_line_bytes(self._service.engine.limits), True
        rest: bytearray | None = bytearray()  # start of an incomplete line; None once it is over the limit
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
        """Return the next line; None if it is empty. data: its bytes; None if they were over the limit."""
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
