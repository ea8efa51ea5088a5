"""A connection with limits, around uvicorn's protocol, which has none of these.

uvicorn waits without end for the head of a request and for a client that does not read. It keeps a head of any
size, and any number of requests that a client sends without waiting for the answers. A `Connection` stands between
the transport and uvicorn's protocol, and uses of both only what `asyncio.Protocol` and `asyncio.Transport` define.
While a request is under way it hands on only what the application waits for; the application tells it so, and finds
it in the state of the ASGI scope.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from typing_extensions import override

from onetrunk.core.serving.http.problems import MEDIA_TYPE, Problem

CONNECTION = "onetrunk.connection"
"""Where `scope["state"]` has the connection."""
HEAD_SECONDS = 20.0
"""How long the head of a request may take to arrive: from its first byte, or from the start of the connection."""
WRITE_SECONDS = 60.0
"""How long a client may leave unread what it was sent."""
HEAD_BYTES = 2**16
"""Of the head of a request, and of what wraps the parts of its body."""
UNREAD_BYTES = 2**26
"""Of a body that still arrives after its response: a client may read a refusal only when it has sent everything."""
_HELD_BYTES = 2**16
"""Bytes that are held before no more are read: of a body that is not asked for yet, or of further requests."""
_PIECE = 2**13
"""Bytes that uvicorn is handed at a time. They can be a hundred small requests, all of which it keeps."""


class Connection(asyncio.Protocol):
    """A connection that ends where a client takes too long or sends too much.

    protocol: the class of uvicorn's protocol; settings: what uvicorn creates it with.
    disconnected: done once the connection is lost.
    """

    def __init__(
        self, protocol: Callable[..., asyncio.Protocol], app_state: Mapping[str, Any], **settings: Any
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._inner = protocol(app_state={**app_state, CONNECTION: self}, **settings)
        self.disconnected: asyncio.Future[None] = self._loop.create_future()
        self._held = bytearray()  # what has arrived and was not handed on yet
        self._running = 0  # requests of the application: two for a moment, where one ends and the next begins
        self._waiting = False  # the application, for the next part of a body
        self._next: asyncio.Handle | None = None
        self._silent = 0  # bytes handed on since the application last took something
        self._allowed = HEAD_BYTES
        self._since: float | None = self._loop.time()  # when the head began that is being waited for
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        self._transport = transport
        self._inner.connection_made(_Transport(transport))  # type: ignore[arg-type]  # forwards all
        self._check_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers and complete `disconnected`."""
        for handle in (self._timer, self._unread, self._next):
            if handle is not None:
                handle.cancel()
        self._held.clear()
        if not self.disconnected.done():
            self.disconnected.set_result(None)
        self._inner.connection_lost(exc)

    @override
    def eof_received(self) -> bool | None:
        """Let uvicorn decide what the end of the client's data means."""
        return self._inner.eof_received()

    @override
    def data_received(self, data: bytes) -> None:
        """Hand on what has arrived, or hold it until it is needed."""
        if self._held or len(data) > _PIECE or (self._running and not self._waiting):
            self._held += data
            if len(self._held) > _HELD_BYTES:
                self._transport.pause_reading()
            self._schedule()
        else:
            self._hand_on(data)

    @override
    def pause_writing(self) -> None:
        """Give a client that does not read `WRITE_SECONDS`."""
        self._inner.pause_writing()
        if self._unread is None:
            self._unread = self._loop.call_later(WRITE_SECONDS, self._transport.abort)

    @override
    def resume_writing(self) -> None:
        """Note that the client reads again."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        self._inner.resume_writing()

    def request_began(self) -> None:
        """Note that the application has the head of a request."""
        self._running += 1
        self._silent, self._allowed, self._since = 0, HEAD_BYTES, None
        if self._next is not None:  # it may end before its turn, and another one may wait in uvicorn
            self._next.cancel()
            self._next = None

    def request_ended(self, *, body_complete: bool) -> None:
        """Note that the application is done with a request. body_complete: it has read the body to its end."""
        self._running -= 1
        self._silent, self._allowed = 0, HEAD_BYTES if body_complete else UNREAD_BYTES
        if self._held:
            self._schedule()

    def body_awaited(self) -> None:
        """Note that the application asks for the next part of the body, which may have arrived already."""
        self._waiting = True
        if self._held:
            self._schedule()

    def body_taken(self) -> None:
        """Note that the application has got that part."""
        self._waiting, self._silent = False, 0

    def _schedule(self) -> None:
        """Hand on the next piece soon: after the application has begun what uvicorn has got by now."""
        if self._next is None:
            self._next = self._loop.call_soon(self._hand_on_held)

    def _hand_on_held(self) -> None:
        self._next = None
        if self._transport.is_closing() or (self._running and not self._waiting):
            return
        piece = bytes(self._held[:_PIECE])
        del self._held[:_PIECE]
        self._hand_on(piece)
        if self._held:
            self._schedule()
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    def _hand_on(self, data: bytes) -> None:
        self._silent += len(data)
        if self._silent > self._allowed:
            self._refuse()
            return
        if self._since is None and not self._running:
            self._since = self._loop.time()
        self._inner.data_received(data)

    def _refuse(self) -> None:
        """End the connection: with an answer where none is under way."""
        if self._running:
            self._transport.abort()
            return
        problem = Problem("headers-too-large", f"the headers have over {HEAD_BYTES} bytes")
        body = json.dumps(problem.to_json()).encode()
        head = (
            f"HTTP/1.1 {problem.status} Request Header Fields Too Large\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self._transport.write(head.encode("ascii") + body)
        self._transport.close()

    def _check_head(self) -> None:
        """End the connection if a head takes too long, and otherwise look again when it would."""
        left = HEAD_SECONDS if self._since is None else self._since + HEAD_SECONDS - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check_head)
        else:
            self._transport.close()


class _Transport:
    """The transport as uvicorn's protocol sees it: when to read is for the `Connection` to decide."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.write, self.is_closing = transport.write, transport.is_closing  # used for every request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def pause_reading(self) -> None:
        """Change nothing."""

    def resume_reading(self) -> None:
        """Change nothing."""
