"""The server process: uvicorn with our connections, its signals, and a shutdown that loses no accepted request."""

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
_KEEP_ALIVE_SECONDS = 75
"""How long an idle connection stays open: longer than clients keep one, or they would send to a closed one."""
_LINGER_SECONDS = 0.5
"""How long open connections are kept at shutdown, so that requests already sent by clients still get a response."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Server(uvicorn.Server):
    """Serves `app`. `run(sockets)` returns after SIGTERM or Ctrl-C, or once `should_exit` is set.

    Requests accepted until then are answered first. A second signal ends the process at once.
    started: called once the server accepts requests.
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
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=math.ceil(seconds) + 5,
        )
        config.load()
        self._protocol = config.http_protocol_class
        config.http_protocol_class = self._connection  # type: ignore[assignment]  # uvicorn only calls it
        super().__init__(config)

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections; log it and call `started`."""
        await super().startup(sockets)
        self._app.service.log.write(
            "serving", adapters=[each.name for each in self._app.service.engine.adapters()]
        )
        self._on_start()

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, answer all accepted requests, and close the connections."""
        service = self._app.service
        service.log.write("stopping")
        service.begin_shutdown()
        drained = asyncio.ensure_future(service.engine.drain())
        await self._stop_accepting(sockets or [])
        await asyncio.sleep(_LINGER_SECONDS)
        await super().shutdown(sockets)
        drained.cancel()
        service.log.write("stopped")

    async def _stop_accepting(self, sockets: Sequence[socket.socket]) -> None:
        """Accept the connections in the backlog, which closing would reset, and then no more."""
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
        for accepted in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._accepted, accepted)

    def _connection(self, **settings: Any) -> Connection:
        return Connection(self._protocol, **settings)

    def _accepted(self) -> Connection:
        return self._connection(config=self.config, server_state=self.server_state, app_state={})

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while the block runs, and restore the previous handlers.

        uvicorn's own method sends the captured signals again afterwards, which would end the process by a signal.
        """
        if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
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
        """Begin the shutdown at the first signal; end the process at the second."""
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True
