"""Bodies of requests: read no further than the limit, no longer than a request may take, not too many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.http.json_codec import read_json
from onetrunk.core.serving.http.problems import MAX_NAME_CHARACTERS, Refusal
from onetrunk.core.serving.http.request_context import RequestContext

_LARGE = 2**16
"""Bytes from which a body counts as large: it is parsed off the loop, which it would hold up."""
_ALL_BYTES = 2**26
"""Of all bodies that are being read, at most, or of a few of the longest."""
_FEW = 4
_SLACK = 2**12
_CLOSE = {"Connection": "close"}
_T = TypeVar("_T")


class ClientDisconnected(Exception):
    """The client has closed the connection before it had its answer."""


class BodyReader:
    """Reads the bodies of requests within `limits`."""

    def __init__(self, limits: Limits) -> None:
        self._most, self._seconds = limits.body_bytes, limits.request_seconds
        self._values = max_values(limits, limits.inputs)
        self._all, self._held = max(_ALL_BYTES, _FEW * limits.body_bytes), 0

    async def read_json(self, request: RequestContext) -> Any:
        """Return the JSON that a request has.

        Raises Refusal: 415 for another type, 413 beyond the limits, 408 if it comes too slowly, 400 for what is no
        JSON; ClientDisconnected.
        """
        check_content_type(request, "application/json")
        announced = request.header(b"content-length")
        if announced.isdigit() and int(announced[:20]) > self._most:
            raise self._too_large()
        message = await self.read_part(request)
        data: bytes = message["body"]
        if len(data) > self._most:
            raise self._too_large()
        if message.get("more_body", False):
            data = await self._rest(request, data)
        if len(data) <= _LARGE:
            return read_json(data, self._values)
        return await asyncio.to_thread(read_json, data, self._values)

    async def read_part(self, request: RequestContext, until: float | None = None) -> Any:
        """Return the next part of a body as an ASGI message. Raises Refusal if it is late; ClientDisconnected.

        until: on the loop's clock; by default it may take as long as a request.
        """
        try:
            async with asyncio.timeout(self._seconds) if until is None else asyncio.timeout_at(until):
                message = await request.receive()
        except TimeoutError:
            detail = f"the body did not come within {self._seconds:g} s"
            raise Refusal("body-too-slow", detail, _CLOSE) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        return message

    async def _rest(self, request: RequestContext, first: bytes) -> bytes:
        data, more = bytearray(first), True
        until = asyncio.get_running_loop().time() + self._seconds
        self._held += len(data)
        try:
            while more:
                message = await self.read_part(request, until)
                more, part = message.get("more_body", False), message.get("body", b"")
                data += part
                self._held += len(part)
                if len(data) > self._most:
                    raise self._too_large()
                if self._held > self._all:
                    raise Refusal("queue-full", "too many large bodies come at once", {"Retry-After": "1"})
        finally:
            self._held -= len(data)
        return bytes(data)

    def _too_large(self) -> Refusal:
        return Refusal("body-too-large", f"the body has over {self._most} bytes, the limit", most=self._most)


def max_line_bytes(limits: Limits) -> int:
    """Return the bytes that a line of a stream may have: of a character JSON can make twelve, as two escapes."""
    return min(
        limits.body_bytes, 12 * (limits.characters + (limits.adapters + 1) * MAX_NAME_CHARACTERS) + _SLACK
    )


def max_values(limits: Limits, inputs: int) -> int:
    """Return how many values JSON with so many inputs may have: twice what it needs."""
    return 2 * inputs * (limits.adapters + 8) + _SLACK


def check_content_type(request: RequestContext, expected: str) -> None:
    """Raise Refusal unless the body of a request says that it is of this type, and not compressed.

    A page of another site can send other types without being asked, and this one not.
    """
    given = request.header(b"content-type").partition(";")[0].strip().lower()
    if given != expected:
        shown = repr(given[:100]) if given else "none"
        raise Refusal("unsupported-media-type", f"expected Content-Type: {expected}, found {shown}")
    if request.header(b"content-encoding").strip().lower() not in ("", "identity"):
        raise Refusal("unsupported-media-type", "the body is compressed; send it as it is")


async def cancel_on_disconnect(request: RequestContext, work: Callable[[], Awaitable[_T]]) -> _T:
    """Return the result of `work`, which is cancelled when the client goes away. Raises ClientDisconnected."""
    task, disconnected, ended = asyncio.current_task(), False, False
    if task is None:
        raise RuntimeError("cancel_on_disconnect was awaited outside of a task; await it in a request")

    def leave(_: object) -> None:
        nonlocal disconnected
        if not ended:
            disconnected = True
            task.cancel()

    watcher = None if request.has_connection else asyncio.create_task(_watch(request))
    request.disconnected.add_done_callback(leave)
    try:
        return await work()
    except asyncio.CancelledError:
        if disconnected and not task.uncancel():
            raise ClientDisconnected from None
        raise
    finally:
        ended = True
        request.disconnected.remove_done_callback(leave)
        if watcher is not None:
            watcher.cancel()


async def _watch(request: RequestContext) -> None:
    """Tell of a lost connection where the server does not."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    if not request.disconnected.done():
        request.disconnected.set_result(None)
