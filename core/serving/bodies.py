"""Bodies of requests: read no further than the limit, for no longer than a request may take, few large at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from starlette.requests import Request

from onetrunk.core.serving.limits import Limits
from onetrunk.core.serving.problems import Refusal
from onetrunk.core.serving.wire import read_json

_LARGE = 2**16
"""Bytes from which a body counts as large: it is parsed off the loop, which it would hold up."""
_LARGE_AT_ONCE = 8
_CLOSE = {"Connection": "close"}
_T = TypeVar("_T")


class ClientGone(Exception):
    """The client has closed the connection before it had its answer."""


class Bodies:
    """Reads the bodies of requests within `limits`."""

    def __init__(self, limits: Limits) -> None:
        self._most, self._seconds = limits.body_bytes, limits.request_seconds
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def json(self, request: Request) -> Any:
        """Return the JSON that a request has.

        Raises Refusal: 415 for another type, 413 beyond the limit, 408 if it comes too slowly, 400 for what is no
        JSON; ClientGone.
        """
        check_type(request, "application/json")
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced[:20]) > self._most:
            raise self._too_large()
        message = await self.part(request)
        data: bytes = message["body"]
        if message.get("more_body", False) or len(data) > _LARGE:
            async with self._large:
                data = await self._rest(request, data, message.get("more_body", False))
                return await asyncio.to_thread(read_json, data)
        return read_json(data)

    async def part(self, request: Request) -> Any:
        """Return the next part of a body as an ASGI message. Raises Refusal if it comes too late; ClientGone."""
        async with self._in_time():
            return await _received(request)

    async def _rest(self, request: Request, first: bytes, more: bool) -> bytes:
        data = bytearray(first)
        async with self._in_time():
            while more and len(data) <= self._most:
                message = await _received(request)
                data += message.get("body", b"")
                more = message.get("more_body", False)
        if len(data) > self._most:
            raise self._too_large()
        return bytes(data)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except TimeoutError:
            detail = f"the body did not come within {self._seconds:g} s"
            raise Refusal("body-too-slow", detail, _CLOSE) from None

    def _too_large(self) -> Refusal:
        return Refusal("body-too-large", f"the body has over {self._most} bytes, the limit", most=self._most)


def check_type(request: Request, expected: str) -> None:
    """Raise Refusal unless the body of a request says that it is of this type, and not compressed.

    A page of another site can send other types without being asked, and this one not.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != expected:
        shown = repr(given[:100]) if given else "none"
        raise Refusal("unsupported-media-type", f"expected Content-Type: {expected}, found {shown}")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refusal("unsupported-media-type", "the body is compressed; send it as it is")


async def _received(request: Request) -> Any:
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


async def unless_gone(request: Request, work: Callable[[], Awaitable[_T]]) -> _T:
    """Return what `work` comes to; it is cancelled, and ClientGone raised, when the client goes away before."""
    task, gone = asyncio.current_task(), False
    assert task is not None

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await work()
    except asyncio.CancelledError:
        if gone and not task.uncancel():
            raise ClientGone from None
        raise
    finally:
        watcher.cancel()
