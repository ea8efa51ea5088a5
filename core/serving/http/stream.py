"""`POST /v1/predict/stream`: lines in, lines out, in order, with a bounded number of them under way.

A client must read answers while it sends: where it does not, the answers fill the connection, and then no more
lines are read either.
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
from onetrunk.core.serving.engine.requests import Answer
from onetrunk.core.serving.http.auth import Grant
from onetrunk.core.serving.http.body_reader import (
    ClientDisconnected,
    check_content_type,
    max_line_bytes,
    max_values,
)
from onetrunk.core.serving.http.json_codec import read_json
from onetrunk.core.serving.http.predict_routes import compute_results, encode_result
from onetrunk.core.serving.http.problems import Problem, Refusal, problem_of
from onetrunk.core.serving.http.request_context import HttpService, RequestContext, authorize

NDJSON = "application/x-ndjson"
GROUP_LINES = 16
"""Lines that are answered together, at most: those that have come."""
MAX_GROUPS = 8
"""Groups under way at the same time."""
_Outcome = list[Answer] | Problem


async def predict_stream(service: HttpService, request: RequestContext) -> Response:
    """Answer each line as it comes; a bad one has its problem in its place, and the stream goes on."""
    grant = authorize(service, request, "predict")
    check_content_type(request, NDJSON)
    if service.draining:
        raise ShuttingDown
    request.inputs = 0
    return _Lines(_Stream(service, request, grant))


class _Lines(Response):
    """Sends what a stream answers. Starlette's own would read the body away while it listens for a disconnect."""

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
    """A line that has come; value: its JSON, or why it has none."""

    number: int
    value: Any

    @property
    def id(self) -> dict[str, object]:
        """The line's `id`, if it has one."""
        given = self.value.get("id") if isinstance(self.value, dict) else None
        sound = isinstance(given, str | int | float) and not isinstance(given, bool)
        return {"id": given} if sound and (not isinstance(given, str) or is_unicode(given)) else {}

    @property
    def input(self) -> Any:
        """What remains of the line without it."""
        if isinstance(self.value, dict):
            return {key: value for key, value in self.value.items() if key != "id" or not self.id}
        return self.value


@dataclass(frozen=True, slots=True)
class _Group:
    """Lines under way. last: the number of the last of them."""

    last: int
    answers: asyncio.Task[bytes]


class _Stream:
    """One stream: a task reads lines and begins groups of them, `answers` waits for each group in its turn."""

    def __init__(self, service: HttpService, request: RequestContext, grant: Grant) -> None:
        self._service, self._request, self._grant = service, request, grant
        self._groups: asyncio.Queue[_Group | None] = asyncio.Queue(MAX_GROUPS)
        self._begun: set[asyncio.Task[bytes]] = set()
        self._values = max_values(service.engine.limits, inputs=1)
        self._number = self._answered = 0

    async def answers(self) -> AsyncGenerator[bytes]:
        """Yield the answers of each group as lines; where the service shuts down, that as the last one."""
        reader = asyncio.create_task(self._read())
        disconnected = self._request.disconnected
        self._service.stream_readers.add(reader)
        try:
            while (group := await self._groups.get()) is not None:
                lines = await self._done(group.answers, reader, disconnected)
                self._answered = group.last
                yield lines
            await asyncio.wait([reader])
            if reader.cancelled():
                yield self._ended(problem_of(ShuttingDown()))
            elif isinstance(error := reader.exception(), Refusal):
                yield self._ended(error.problem)
            elif error is not None:
                raise error
        finally:
            self._service.stream_readers.discard(reader)
            for task in (reader, *self._begun):
                task.cancel()
            while not self._groups.empty():  # else the reader would wait to say that it has ended
                self._groups.get_nowait()

    def _ended(self, problem: Problem) -> bytes:
        """Return the line that says why no more lines are answered, and from which on."""
        return encode_result(self._service, problem, line=self._answered + 1) + b"\n"

    async def _done(
        self, group: asyncio.Task[bytes], reader: asyncio.Task[None], disconnected: asyncio.Future[None]
    ) -> bytes:
        """Return the answers of a group. Raises ClientDisconnected as soon as that is known.

        The reader hears of it as long as it reads; while it waits for a place in the window the connection tells.
        """
        while True:
            heard = (
                reader.done()
                and not reader.cancelled()
                and isinstance(reader.exception(), ClientDisconnected)
            )
            if heard or disconnected.done():
                raise ClientDisconnected
            if group.done():
                return group.result()
            waited: list[asyncio.Future[Any]] = [group, disconnected, *([] if reader.done() else [reader])]
            await asyncio.wait(waited, return_when=FIRST_COMPLETED)

    async def _read(self) -> None:
        """Begin groups until the lines end, the client goes away or the service shuts down."""
        try:
            async for lines in self._lines():
                for start in range(0, len(lines), GROUP_LINES):
                    await self._begin(lines[start : start + GROUP_LINES])
        finally:
            await self._groups.put(None)

    async def _begin(self, lines: Sequence[_Line]) -> None:
        task = asyncio.create_task(self._answers_to(lines))
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        await self._groups.put(_Group(lines[-1].number, task))

    async def _answers_to(self, lines: Sequence[_Line]) -> bytes:
        """Return the answers to a group, a line each."""
        self._request.inputs = (self._request.inputs or 0) + len(lines)
        sound = [line.input for line in lines if not isinstance(line.value, Refusal)]
        results = iter(await self._results(sound))
        out = []
        for line in lines:
            result = self._refused(line.value) if isinstance(line.value, Refusal) else next(results)
            more = {**line.id, **({"line": line.number} if isinstance(result, Problem) else {})}
            out.append(encode_result(self._service, result, **more))
        return b"\n".join(out) + b"\n"

    def _refused(self, refusal: Refusal) -> Problem:
        self._service.metrics.failed(refusal)
        return refusal.problem

    async def _results(self, inputs: Sequence[Any]) -> Sequence[_Outcome]:
        try:
            return await compute_results(self._service, inputs, self._grant, wait=True)
        except Busy as error:
            self._service.metrics.failed(error)
            return [problem_of(error)] * len(inputs)

    async def _lines(self) -> AsyncIterator[list[_Line]]:
        """Yield the lines that each part of the body ends."""
        most, more = max_line_bytes(self._service.engine.limits), True
        rest: bytearray | None = bytearray()  # None: too long already, and forgotten
        while more:
            part = await self._service.body_reader.read_part(self._request)
            more = part.get("more_body", False)
            first, *others = part.get("body", b"").split(b"\n")
            if rest is not None:
                rest += first
                rest = rest if len(rest) <= most else None
            complete = [rest, *others] if not more else [rest, *others[:-1]] if others else []
            if others:
                rest = bytearray(others[-1])
            if lines := [line for data in complete if (line := self._line(data, most)) is not None]:
                yield lines

    def _line(self, data: bytes | bytearray | None, most: int) -> _Line | None:
        """Return the next line; None if there is nothing in it. data: None for what was too long to keep."""
        self._number += 1
        if data is None or len(data) > most:
            return _Line(
                self._number, Refusal("body-too-large", f"the line has over {most} bytes", most=most)
            )
        if not data.strip():
            return None
        try:
            return _Line(self._number, read_json(bytes(data), self._values))
        except Refusal as refusal:
            return _Line(self._number, refusal)
