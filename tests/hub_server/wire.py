"""HTTP: a request read, a fault applied, an answer written."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub_server.faults import Fault, Faults


@dataclass
class Request:
    """A line of the log.

    path: unquoted, without the query. token: whether one came along. range: the header of this name.
    status: of the answer; 0 while there is none, or if the connection was dropped. fault: what struck it.
    """

    method: str
    path: str
    query: Mapping[str, list[str]] = field(default_factory=dict)
    token: bool = False
    range: str | None = None
    status: int = 0
    fault: str | None = None

    def __str__(self) -> str:
        pairs = "&".join(f"{key}={value}" for key, values in self.query.items() for value in values)
        return f"{self.method} {self.path}" + (f"?{pairs}" if pairs else "")


@dataclass(frozen=True)
class Call:
    """A request with what its answer depends on. target: path and query as sent."""

    request: Request
    target: str
    headers: Message[str, str]
    body: bytes = b""

    @property
    def token(self) -> str | None:
        """What came as `Authorization: Bearer TOKEN`."""
        return self.headers.get("Authorization", "").removeprefix("Bearer ").strip() or None

    def first(self, key: str, default: str = "") -> str:
        """The first value of a key of the query."""
        return self.request.query.get(key, [default])[0]

    def flag(self, key: str) -> bool:
        """Whether a key of the query says yes."""
        return self.first(key).lower() in ("1", "true")

    def json(self) -> dict[str, Any]:
        """The body. Raises HubError."""
        try:
            found = json.loads(self.body or b"{}")
        except ValueError as error:
            raise HubError(400, f"Invalid JSON: {error}") from error
        if not isinstance(found, dict):
            raise HubError(400, "Invalid JSON: an object is expected")
        return found


@dataclass
class Reply:
    """An answer."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, status: int = 200, **headers: str) -> Reply:
        """Underscores in the headers' names stand for hyphens."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return cls(json.dumps(value).encode(), status, {"Content-Type": "application/json", **named})


class HubError(Exception):
    """What the Hub refuses. code: of X-Error-Code. headers: more of them."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers

    def reply(self) -> Reply:
        codes = {} if self.code is None else {"X_Error_Code": self.code}
        text = str(self).replace("\n", " ")
        return Reply.json({"error": str(self)}, self.status, X_Error_Message=text, **codes, **self.headers)


class Hub(Protocol):
    """What answers."""

    faults: Faults
    requests: list[Request]
    bugs: list[Exception]
    stopped: threading.Event

    def answer(self, call: Call) -> Reply:
        """Raises HubError."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Port

    def serve(self) -> None:
        """Answer a request of any method."""
        hub, call = self.server.hub, self._read()
        request = call.request
        hub.requests.append(request)
        fault = hub.faults.strike(request)
        request.fault = None if fault is None else fault.kind
        if request.fault == "drop":
            return self._reset()
        reply = self._faulty(call, fault) if fault else self._answer(call)
        request.status = reply.status
        return self._send(reply, request.fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve  # noqa: N815 (the library's names)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr: `requests` is the log."""

    def _read(self) -> Call:
        parts = urlsplit(self.path)
        request = Request(
            self.command,
            unquote(parts.path),
            parse_qs(parts.query, keep_blank_values=True),
            "Authorization" in self.headers,
            self.headers.get("Range"),
        )
        return Call(request, self.path, self.headers, self._body())

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return body

    def _faulty(self, call: Call, fault: Fault) -> Reply:
        """The answer to a request that a fault has struck."""
        if fault.answer is not None:
            status, body, headers = fault.answer
            return Reply(body, status, headers)
        if fault.kind == "500":
            return HubError(
                500, "Internal Error - We're working hard to fix this as soon as possible!"
            ).reply()
        if fault.kind == "429":
            return HubError(429, "Too Many Requests", Retry_After=f"{fault.seconds:.0f}").reply()
        if fault.kind == "slow":
            self.server.hub.stopped.wait(fault.seconds)
        if fault.action is not None:
            fault.action()
        if fault.kind == "flip" and call.request.method == "PUT":
            call = replace(call, body=flipped(call.body))
        reply = self._answer(call)
        if fault.kind == "flip" and reply.status in (200, 206):
            reply.body = flipped(reply.body)
        return reply

    def _answer(self, call: Call) -> Reply:
        try:
            return self.server.hub.answer(call)
        except HubError as refusal:
            return refusal.reply()
        except Exception as bug:  # ours; the test learns of it when the Hub is closed
            self.server.hub.bugs.append(bug)
            return HubError(501, f"bug of the test Hub: {bug!r}").reply()

    def _send(self, reply: Reply, fault: str | None) -> None:
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
            self.send_header(name, value)
        head = b"".join(self._headers_buffer) + b"\r\n"  # type: ignore[attr-defined]
        self._headers_buffer.clear()  # type: ignore[attr-defined]
        body = b"" if self.command == "HEAD" else reply.body
        if fault not in ("reset", "truncate"):
            self.wfile.write(head + body)
            return
        self.wfile.write(head + body[: len(body) // 2] if body else b"")
        self.close_connection = True
        if fault == "reset":
            time.sleep(0.05)  # what was sent arrives first
            self._reset()

    def _reset(self) -> None:
        """Close so that the other side gets RST: with no FIN before it, and at once."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(self.connection.detach())


class Port(ThreadingHTTPServer):
    """A free port of loopback, served until `stop`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = hub
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._open: set[Any] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        for connection in list(self._open):
            with suppress(OSError):  # its client, or a reset, was faster
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no bug, and bugs in answers are noted already."""


def flipped(body: bytes) -> bytes:
    """The same bytes but for the middle one."""
    middle = len(body) // 2
    return body[:middle] + bytes(255 - byte for byte in body[middle : middle + 1]) + body[middle + 1 :]
