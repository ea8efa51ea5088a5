"""The server process: its signals, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import uvicorn
from typing_extensions import override

from onetrunk.core.serving.http.app import App
from onetrunk.core.serving.http.connection import Connection

_BACKLOG = 2048
_KEEP_SECONDS = 75
"""How long a connection is kept open for a next request: longer than clients do, which else find it just closed."""
_LINGER = 0.5
"""Seconds that open connections are kept for, when the service ends: what is on its way then gets an answer."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Server(uvicorn.Server):
    """Serves `app` on sockets: `run(sockets)` returns after SIGTERM or Ctrl-C, or once `should_exit` is set.

    What was accepted until then is answered first; a second signal ends the process at once.
    started: called once requests are answered.
    """

    def __init__(self, app: App, started: Callable[[], object]) -> None:
        self._app, self._on_start = app, started
        seconds = app.service.engine.limits.request_seconds
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_SECONDS,
            timeout_graceful_shutdown=math.ceil(seconds) + 5,
        )
        config.load()
        self._protocol = config.http_protocol_class
        config.http_protocol_class = self._connection  # type: ignore[assignment]  # uvicorn only calls it
        super().__init__(config)

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets)
        self._app.service.log.write(
            "serving", adapters=[each.name for each in self._app.service.engine.served()]
        )
        self._on_start()

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, answer what was accepted, end the connections."""
        service = self._app.service
        service.log.write("stopping")
        service.begin_shutdown()
        drained = asyncio.ensure_future(service.engine.drain())
        await self._stop_accepting(sockets or [])
        # A client that has just sent a request on an open connection is told, instead of finding it closed.
        await asyncio.sleep(_LINGER)
        await super().shutdown(sockets)
        drained.cancel()
        service.log.write("stopped")

    async def _stop_accepting(self, sockets: Sequence[socket.socket]) -> None:
        """Take in the connections that wait to be accepted, which would else be cut, and then no more."""
        waiting: list[socket.socket] = []
        for listener in sockets:
            with contextlib.suppress(OSError):  # none waits any more
                while True:
                    accepted, _ = listener.accept()
                    accepted.setblocking(False)
                    waiting.append(accepted)
            with contextlib.suppress(OSError):  # where only connections can be shut down
                listener.shutdown(socket.SHUT_RDWR)
        for server in self.servers:
            server.close()
        for accepted in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._accepted, accepted)

    def _connection(self, **settings: Any) -> Connection:
        return Connection(self._protocol, **settings)

    def _accepted(self) -> Connection:
        return self._connection(config=self.config, server_state=self.server_state, app_state={})

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
            os._exit(128 + sig)
        self.should_exit = True
