"""A real HTTP server on loopback that answers what a test tells it to, and keeps what it was asked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

PROBLEM = "application/problem+json"
LINES = "application/x-ndjson"


@dataclass(frozen=True)
class Asked:
    """A request as it came in."""

    method: str
    path: str
    headers: Message
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.split(b"\n") if line]


@dataclass(frozen=True)
class Said:
    """An answer.

    cut: bytes at its end that are promised and do not come. breaks: there is none, the connection ends.
    closes: the connection ends after it, unannounced.
    """

    body: bytes | Iterable[bytes] = b""
    status: int = 200
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0
    breaks: bool = False
    closes: bool = False


Way = Said | Callable[[Asked], Said]


def said(value: object, status: int = 200, **headers: str) -> Said:
    return Said(json.dumps(value, ensure_ascii=False).encode(), status, headers=dashed(headers))


def lines(*values: object, **headers: str) -> Said:
    text = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    return Said(text.encode(), kind=LINES, headers=dashed(headers))


def problem(status: int, type: str, detail: str = "", **more: object) -> Said:
    body = {"type": f"/problems/{type}", "title": type, "status": status, "detail": detail or type, **more}
    return Said(json.dumps(body).encode(), status, PROBLEM)


def busy(status: int = 429, **headers: str) -> Said:
    refused = problem(status, "queue-full", "9 tokens wait")
    return Said(refused.body, status, PROBLEM, dashed(headers))


def dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


class Peer:
    """A server that says `ways` one after the other, the last one again and again. asked: the requests so far."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.ways: list[Way] = []
        self.asked: list[Asked] = []

    def says(self, *ways: Way) -> None:
        self.ways = list(ways)

    def answer(self, asked: Asked) -> Said:
        self.asked.append(asked)
        way = self.ways.pop(0) if len(self.ways) > 1 else self.ways[0]
        return way if isinstance(way, Said) else way(asked)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    peer: Peer

    def _handle(self) -> None:
        began = time.monotonic()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.peer.answer(Asked(self.command, self.path, self.headers, body, began))
        if answer.breaks:
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if isinstance(answer.body, bytes):
            self._send_whole(answer)
        else:
            self._send_parts(answer.body, answer.cut > 0)
        self.close_connection = self.close_connection or answer.closes or answer.cut > 0

    def _send_whole(self, answer: Said) -> None:
        assert isinstance(answer.body, bytes)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body) + answer.cut))
        self.end_headers()
        self.wfile.write(answer.body)

    def _send_parts(self, parts: Iterable[bytes], cut: bool) -> None:
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for part in parts:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        finally:
            if isinstance(parts, Generator):
                parts.close()
        if not cut:
            self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815  # the names that http.server looks for

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone away is no fault of the server."""


@contextmanager
def listening(port: int = 0) -> Iterator[Peer]:
    handler = type("Handler", (_Handler,), {})
    with _Server(("127.0.0.1", port), handler) as server:
        peer = handler.peer = Peer(server)  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield peer
        finally:
            server.shutdown()
            thread.join()
