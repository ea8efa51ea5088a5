"""A connection with limits on time and memory, as a wrapper of uvicorn's protocol.

uvicorn has no timeout for the head of a request (request line and headers), nor for a client that does not read its
responses. It has no limit on the size of a head, nor on the number of requests that a client sends ahead
(pipelining).

A `Connection` receives the data from the transport and forwards them to uvicorn's protocol. It uses only the
interfaces `asyncio.Protocol` and `asyncio.Transport`, and nothing private of uvicorn. While a request is under
way, it forwards data only if the application waits for a part of the body. The application gets the connection
from the state of the ASGI scope, and reports the start and the end of each request to it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from typing_extensions import override

from onetrunk.core.serving.http.problems import MEDIA_TYPE, Problem

CONNECTION = "onetrunk.connection"
"""Key of `scope["state"]`: the connection."""
HEAD_SECONDS = 20.0
"""Timeout for the head of a request in seconds, from its first byte or from the start of the connection."""
WRITE_SECONDS = 60.0
"""Timeout for a client that does not read its responses, in seconds."""
HEAD_BYTES = 2**16
"""Limit on the bytes of a head, and on bytes that contain no part of a body, such as chunk extensions."""
UNREAD_BYTES = 2**26
"""Limit on the rest of a body after its response: some clients send the whole body before they read."""
_HELD_BYTES = 2**16
"""Above this number of held bytes, the connection stops reading from the socket."""
_PIECE_BYTES = 2**13
"""Maximum number of bytes forwarded at a time. They may contain many small requests, and uvicorn keeps them all."""


class Connection(asyncio.Protocol):
    """A connection that is closed if the client is too slow or sends too much.

    protocol: the class of uvicorn's protocol.
    app_state: state of the ASGI scope.
    settings: the other arguments of `protocol`.
    disconnected: done once the connection is lost.
    """

    def __init__(
        self, protocol: Callable[..., asyncio.Protocol], app_state: Mapping[str, Any], **settings: Any
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._inner = protocol(app_state={**app_state, CONNECTION: self}, **settings)
        self.disconnected: asyncio.Future[None] = self._loop.create_future()
        self._held = bytearray()  # data received, but not forwarded yet
        self._running = 0  # number of requests under way: 0 or 1, and 2 for a moment
        self._waiting = False  # whether the application waits for a part of a body
        self._next: asyncio.Handle | None = None  # the scheduled call of `_forward_held`
        self._untaken = 0  # bytes forwarded since the application last received something
        self._allowed = HEAD_BYTES  # limit on `_untaken`
        self._head_began: float | None = self._loop.time()  # start of the current head; None if there is none
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._inner.connection_made(_Transport(transport))  # type: ignore[arg-type]  # forwards all
        self._check_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        for handle in (self._head_timer, self._write_timer, self._next):
            if handle is not None:
                handle.cancel()
        self._held.clear()
        if not self.disconnected.done():
            self.disconnected.set_result(None)
        self._inner.connection_lost(exc)

    @override
    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    @override
    def data_received(self, data: bytes) -> None:
        if self._held or len(data) > _PIECE_BYTES or (self._running and not self._waiting):
            self._held += data
            if len(self._held) > _HELD_BYTES:
                self._transport.pause_reading()
            self._schedule()
        else:
            self._forward(data)

    @override
    def pause_writing(self) -> None:
        self._inner.pause_writing()
        self._write_timer = self._loop.call_later(WRITE_SECONDS, self._transport.abort)

    @override
    def resume_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        self._inner.resume_writing()

    def request_began(self) -> None:
        """Report that the application has begun a request."""
        self._running += 1
        self._untaken, self._allowed, self._head_began = 0, HEAD_BYTES, None
        if self._next is not None:  # the data forwarded last may already contain another request
            self._next.cancel()
            self._next = None

    def request_ended(self, *, body_complete: bool) -> None:
        """Report that the application has ended a request. body_complete: whether it read the whole body."""
        self._running -= 1
        self._untaken, self._allowed = 0, HEAD_BYTES if body_complete else UNREAD_BYTES
        if self._held:
            self._schedule()

    def body_awaited(self) -> None:
        """Report that the application waits for the next part of the body."""
        self._waiting = True
        if self._held:
            self._schedule()

    def body_taken(self) -> None:
        """Report that the application has received a part of the body."""
        self._waiting, self._untaken = False, 0

    def _schedule(self) -> None:
        """Schedule the next piece of the held data, so that the application can handle the last piece first."""
        if self._next is None:
            self._next = self._loop.call_soon(self._forward_held)

    def _forward_held(self) -> None:
        """Forward the next piece of the held data if the application can take it; then resume reading."""
        self._next = None
        if self._transport.is_closing() or (self._running and not self._waiting):
            return
        piece = bytes(self._held[:_PIECE_BYTES])
        del self._held[:_PIECE_BYTES]
        self._forward(piece)
        if self._held:
            self._schedule()
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    def _forward(self, data: bytes) -> None:
        """Forward data to uvicorn's protocol, or refuse them above the limit."""
        self._untaken += len(data)
        if self._untaken > self._allowed:
            self._refuse()
            return
        if self._head_began is None and not self._running:
            self._head_began = self._loop.time()
        self._inner.data_received(data)

    def _refuse(self) -> None:
        """Close the connection; answer 431 if no request is under way."""
        if self._running:
            self._transport.abort()
            return
        problem = Problem(
            "headers-too-large",
            f"the request line and the headers have over {HEAD_BYTES} bytes, the limit; send fewer",
        )
        body = json.dumps(problem.to_json()).encode()
        head = (
            f"HTTP/1.1 {problem.status} Request Header Fields Too Large\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self._transport.write(head.encode("ascii") + body)
        self._transport.close()

    def _check_head(self) -> None:
        """Close the connection if the current head has timed out; otherwise check again later."""
        now = self._loop.time()
        timeout = (now if self._head_began is None else self._head_began) + HEAD_SECONDS
        if now < timeout:
            self._head_timer = self._loop.call_at(timeout, self._check_head)
        else:
            self._transport.close()


class _Transport:
    """The transport that uvicorn's protocol gets. It does not pause reading, because the `Connection` does."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.write, self.is_closing = transport.write, transport.is_closing  # faster than by `__getattr__`

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def pause_reading(self) -> None:
        """Do nothing."""

    resume_reading = pause_reading
