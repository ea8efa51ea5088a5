"""The server process: where it listens, its signals, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import uvicorn
from typing_extensions import override

from onetrunk.core.errors import UsageError
from onetrunk.core.serving.app import App
from onetrunk.core.serving.connection import Connection
from onetrunk.core.serving.hosts import is_loopback

_BACKLOG = 2048
_LINGER = 0.5
"""Seconds that open connections are kept for, when the service ends: what is on its way then gets an answer."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def listen(host: str, port: int, *, local: bool) -> list[socket.socket]:
    """Return sockets that are bound to `host` and `port` (0: any that is free), and do not accept yet.

    local: only to loopback addresses. Raises UsageError for a place that cannot be had, or must not.
    """
    found = _addresses(host, port)
    if local and not all(is_loopback(address[0].partition("%")[0]) for _, address in found):
        raise UsageError(
            f"host {host}: others can reach it, and there are no tokens; name a file with --token-file, "
            "or serve on 127.0.0.1"
        )
    sockets: list[socket.socket] = []
    try:
        for family, address in found:
            chosen = sockets[0].getsockname()[1] if sockets else port
            sockets.append(_bound(family, (address[0], chosen, *address[2:])))
    except OSError as error:
        for each in sockets:
            each.close()
        raise UsageError(_unbound(host, port, error)) from error
    return sockets


def url_of(host: str, sockets: Sequence[socket.socket]) -> str:
    """Return the address of the service as a URL."""
    port = sockets[0].getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Serves `app` on sockets: `run(sockets)` returns after SIGTERM or Ctrl-C, or once `should_exit` is set.

    What was accepted until then is answered first; a second signal ends the process at once.
    started: called once requests are answered.
    """

    def __init__(self, app: App, started: Callable[[], object]) -> None:
        self._app, self._on_start = app, started
        seconds = app.service.engine.limits.request_seconds
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=math.ceil(seconds) + 5,
            )
        )

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets)
        self._on_start()

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, answer what was accepted, end the connections."""
        service = self._app.service
        service.log.write("stopping")
        service.stop_reading()
        drained = asyncio.ensure_future(service.engine.drain())
        for server in self.servers:
            server.close()
        # A client that has just sent a request on an open connection is told, instead of finding it closed.
        await asyncio.sleep(_LINGER)
        await super().shutdown(sockets)
        drained.cancel()
        service.log.write("stopped")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Hear signals for as long as the block runs, and leave nothing of them behind."""
        if threading.current_thread() is not threading.main_thread():  # which alone hears signals
            yield
            return
        before = {each: signal.signal(each, self.handle_exit) for each in _SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end at the first signal, and end at the second."""
        if self.should_exit:
            self._app.service.log.flush()
            os._exit(128 + sig)
        self.should_exit = True


def _addresses(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    if not 0 <= port <= 65535:
        raise UsageError(f"port {port}: expected a number from 0 to 65535")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"host {host!r}: no such address ({error}); try 127.0.0.1") from error
    return [(family, address) for family, _, _, _, address in dict.fromkeys(found)]  # type: ignore[misc]


def _bound(family: int, address: tuple[str | int, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix" and sys.platform != "cygwin":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


def _unbound(host: str, port: int, error: OSError) -> str:
    why = (error.strerror or str(error)).lower()
    remedy = {
        "EADDRINUSE": "choose another with --port, or 0 for any that is free",
        "EACCES": "ports below 1024 are the system's; choose another with --port",
        "EADDRNOTAVAIL": "this machine has no such address; try 127.0.0.1",
    }
    name = errno.errorcode.get(error.errno or 0, "")
    return f"cannot listen on {host}:{port}: {why}" + (f"; {remedy[name]}" if name in remedy else "")
