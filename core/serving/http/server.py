"""The server process: uvicorn with limited connections, signals, and a shutdown that loses no accepted request."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from typing_extensions import override

from onetrunk.core.serving.http.app import App
from onetrunk.core.serving.http.connection import Connection
from onetrunk.core.serving.http.cors import with_cors

_KEEP_ALIVE_SECONDS = 75
"""Time that an idle connection stays open: longer than in clients, which then never use a closed connection."""
_LINGER_SECONDS = 0.5
"""Time that open connections are kept at shutdown, so that requests that clients have sent still get a response."""


def _without_trailers(protocol: Any) -> Any:
    """Return a subclass of uvicorn's protocol that drops the trailers of chunked bodies.

    httptools calls `on_header` for headers and trailers, and uvicorn would add the trailers to the headers.
    """

    class Protocol(protocol):  # type: ignore[misc]
        in_head = True

        def on_message_begin(self) -> None:
            self.in_head = True
            super().on_message_begin()

        def on_header(self, name: bytes, value: bytes) -> None:
            if self.in_head:
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self.in_head = False
            super().on_headers_complete()

    return Protocol


class Server(uvicorn.Server):
    """Serves `app`. `run(sockets)` returns after SIGTERM or Ctrl-C, or once `should_exit` is set.

    All requests accepted before that are answered first. A second signal ends the process at once.

    started: awaited once the server accepts requests. If it raises an exception, the server ends, and `run` raises
        the exception.
    origins: origins of web pages that may call the service; see `cors`.
    """

    def __init__(
        self, app: App, started: Callable[[], Awaitable[object]], origins: Sequence[str] = ()
    ) -> None:
        self._app, self._on_start = app, started
        self._starting: asyncio.Task[None] | None = None
        config = uvicorn.Config(
            with_cors(app, origins),
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=math.ceil(app.service.engine.limits.request_seconds) + 5,
        )
        config.load()
        connection = partial(Connection, _without_trailers(config.http_protocol_class))
        config.http_protocol_class = connection  # type: ignore[assignment]  # uvicorn only calls it
        super().__init__(config)

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        service = self._app.service
        try:
            await self._on_start()
        except Exception:
            self.should_exit = True
            raise
        service.log.write("serving", adapters=sorted(service.engine.names()))

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting connections, answer all accepted requests, and close the connections."""
        service = self._app.service
        service.log.write("stopping")
        service.begin_shutdown()
        drained = asyncio.ensure_future(service.engine.drain())
        await self._stop_accepting(sockets or [])
        await asyncio.sleep(_LINGER_SECONDS)
        await super().shutdown(sockets)
        drained.cancel()
        if self._starting is not None:
            self._starting.cancel()
        service.log.write("stopped")

    @override
    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the end. Raises the exception of `started`."""
        super().run(sockets)
        starting = self._starting
        if starting is not None and starting.done() and not starting.cancelled():
            starting.result()

    async def _stop_accepting(self, sockets: Sequence[socket.socket]) -> None:
        """Accept the connections in the backlog, which closing would reset; then close the listening sockets."""
        waiting: list[socket.socket] = []
        for listener in sockets:
            with contextlib.suppress(OSError):  # raised when the backlog is empty
                while True:
                    accepted, _ = listener.accept()
                    accepted.setblocking(False)
                    waiting.append(accepted)
            with contextlib.suppress(OSError):  # raised on systems that cannot shut down a listening socket
                listener.shutdown(socket.SHUT_RDWR)
        for server in self.servers:
            server.close()
        settings = {"config": self.config, "server_state": self.server_state, "app_state": {}}
        connection = partial(self.config.http_protocol_class, **settings)
        for accepted in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(connection, accepted)

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # The signal is not recorded as in uvicorn's method: uvicorn would send it again after the shutdown.
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True
