"""A lean client of HTTP/1.1 over loopback: connections that are kept, one request at a time on each.

A benchmark's client shares the cores with what it measures, so it reads of a response no more than its status, its
length and its body. Loads nothing heavy.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from typing import Any

LOST = 0
"""The status of a request that has no response: its connection was lost or never came about."""
IDLE = 2.0
"""Seconds after which a connection is not used again: servers close idle ones, uvicorn after 5."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

Answered = Callable[[Any, int, bytes], None]
"""Hears of a response: what was asked, status, body."""


def post(path: str, body: bytes) -> bytes:
    """Return a whole request with a JSON body."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection(asyncio.Protocol):
    """One connection; belongs to a pool, which it tells of each response and of its end."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._status, self._length = LOST, -1
        self.asked: Any = None
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]  # of a socket: it writes

    def ask(self, asked: Any, request: bytes) -> None:
        """Send a request; the connection must have no other under way."""
        self.asked = asked
        if self._transport is not None:
            self._transport.write(request)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Take in a part of a response, and hand it over once whole. Raises ValueError without a length."""
        self._received += data
        if self._length < 0:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end])
            if (found := _LENGTH.search(head)) is None:
                raise ValueError(f"a response without Content-Length: {head[:200]!r}")
            self._status, self._length = int(head[9:12]), int(found[1])
            del self._received[: end + 4]
        if len(self._received) >= self._length:
            body = bytes(self._received)
            self._received.clear()
            self._length = -1
            asked, self.asked = self.asked, None
            self._pool.answered(asked, self._status, body)
            self._pool.release(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Hand over a request that had no response yet."""
        self._pool.lost(self)


class Pool:
    """Connections to one port; one is opened where none is free, up to `most`. Then requests wait for one.

    answered: hears of each response, and of each request that has none, with the status `LOST`.
    """

    def __init__(self, port: int, most: int, answered: Answered) -> None:
        self._port, self._most = port, most
        self.answered = answered
        self._all: set[Connection] = set()
        self._idle: list[Connection] = []
        self._waiting: deque[tuple[Any, bytes]] = deque()
        self._opening: set[asyncio.Task[None]] = set()

    def ask(self, asked: Any, request: bytes) -> None:
        """Send a request on the connection that was free last, or as soon as there is one."""
        now = time.monotonic()
        while self._idle:
            connection = self._idle.pop()
            if now - connection.idle_since < IDLE:
                connection.ask(asked, request)
                return
            connection.close()
        self._waiting.append((asked, request))
        if len(self._all) + len(self._opening) < self._most:
            task = asyncio.get_running_loop().create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def release(self, connection: Connection) -> None:
        """Take back a connection that has nothing under way."""
        if self._waiting:
            connection.ask(*self._waiting.popleft())
        else:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if connection.asked is not None:
            self.answered(connection.asked, LOST, b"")

    def close(self) -> None:
        """Give up what is under way, and close everything."""
        for task in self._opening:
            task.cancel()
        self._waiting.clear()
        for connection in self._all:
            connection.asked = None
            connection.close()

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._port)
        except OSError:
            if self._waiting:
                self.answered(self._waiting.popleft()[0], LOST, b"")
            return
        self._all.add(connection)
        self.release(connection)
