"""A connection: uvicorn's own, with bounds on what a client may leave unfinished.

Uvicorn waits for ever for the rest of a request's head, and for a client to read what it was sent; and it keeps
headers of any size.
"""

from __future__ import annotations

import asyncio
import json

from typing_extensions import override
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from onetrunk.core.serving.http.problems import MEDIA_TYPE, Problem
from onetrunk.core.serving.http.request_context import GONE, WHOLE, new_id

HEAD_SECONDS = 20.0
"""How long the head of a request may take to come, from its first byte, and the first byte of a connection."""
WRITE_SECONDS = 60.0
"""How long a client may leave unread what it was sent."""
HEAD_BYTES = 2**16
"""Of the head of a request and, with some bytes for each of the body, what its chunks are wrapped in."""
_PER_BYTE = 16
UNREAD_BYTES = 2**26
"""Of a body that is still sent after its response: a client may not hear of a refusal before it has sent all."""
_PIECE = 2**13
"""Bytes that are parsed at a time: they can be many requests one behind the other, answered one by one."""


class Connection(HttpToolsProtocol):
    """A connection that ends itself where a client takes too long or sends too much."""

    _head: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _began = False  # a request, with what is being fed to the parser
    _open = False  # its head has not come as a whole
    _stalled = False  # nothing is read, as there is something to parse
    _overhead = _discarded = _body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Hear of a new connection."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self)
        self._rest = bytearray()  # what has come and is not parsed yet
        self._gone = self.loop.create_future()
        self._open = True
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear of its end."""
        self._cancel()
        if not self._gone.done():
            self._gone.set_result(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what has come."""
        if self._rest or self.pipeline or len(data) > _PIECE:
            self._rest += data
            self._feed()
        else:
            self._parse(data)

    def may_read(self) -> bool:
        """Tell whether more may come: not while requests wait, or while there is something to parse, soon then."""
        if self._rest and not self.pipeline:
            self.loop.call_soon(self._feed)
        return not self._rest and not self.pipeline

    def _feed(self) -> None:
        """Parse what has come, as long as no request waits for the answer to the one before it."""
        while self._rest and not self.pipeline and not self.transport.is_closing():
            piece = bytes(self._rest[:_PIECE])
            del self._rest[:_PIECE]
            self._parse(piece)
        if self.transport.is_closing():
            return
        if self._rest:
            self._stalled = True
            self.flow.pause_reading()
        elif self._stalled:
            self._stalled = False
            self.flow.resume_reading()

    def _parse(self, data: bytes) -> None:
        self._began, self._body = False, 0
        super().data_received(data)
        if self.transport.is_closing():
            return
        if not self._began:  # else most of it may belong to requests before
            self._overhead = max(0, self._overhead + len(data) - (1 + _PER_BYTE) * self._body)
        if self._overhead > HEAD_BYTES:
            self._refuse()
        elif self._open and self._head is None:
            self._await_head()

    def on_message_begin(self) -> None:
        """Hear of the first byte of a request."""
        super().on_message_begin()
        self.scope[GONE] = self._gone  # type: ignore[literal-required]
        self._began = self._open = True
        self._overhead = 0

    def on_headers_complete(self) -> None:
        """Hear that the head is there."""
        self._open = False
        if self._head is not None:
            self._head.cancel()
            self._head = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take in a part of the body."""
        self._body += len(body)
        if self.cycle.response_complete:
            self._discarded += len(body)
            if self._discarded > UNREAD_BYTES:
                self.transport.abort()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Hear that the body is there."""
        super().on_message_complete()
        self.scope[WHOLE] = True  # type: ignore[literal-required]

    def pause_writing(self) -> None:
        """Hear that the client does not read."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Hear that it does again."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    @override
    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, and end."""
        self._send(Problem("malformed-http", "this is no HTTP/1.1 request"))

    def _await_head(self) -> None:
        self._head = self.loop.call_later(HEAD_SECONDS, self._late)

    def _late(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_head()  # the request before is not answered yet, so nothing has been read since
        else:
            self.transport.close()

    def _refuse(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete and self.cycle.response_started:
            self.transport.abort()
        else:
            self._send(Problem("headers-too-large", f"the headers have over {HEAD_BYTES} bytes"))

    def _send(self, problem: Problem) -> None:
        request = new_id()
        body = json.dumps(problem.to_json(instance=request)).encode()
        head = {
            "content-type": MEDIA_TYPE,
            "content-length": str(len(body)),
            "x-request-id": request,
            "connection": "close",
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items()).encode("ascii")
        self.transport.write(STATUS_LINE[problem.status] + lines + b"\r\n" + body)
        self.transport.close()

    def _cancel(self) -> None:
        for timer in (self._head, self._unread):
            if timer is not None:
                timer.cancel()
        self._head = self._unread = None


class _Flow(FlowControl):
    """Uvicorn's flow control, which would read on while requests wait that have come already."""

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        super().__init__(transport)
        self._connection = connection

    @override
    def resume_reading(self) -> None:
        """Have more come, if it may."""
        if self._connection.may_read():
            super().resume_reading()
