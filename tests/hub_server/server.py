"""The Hub as a test holds it: two ports, a log, faults, and what a child process needs to know."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.hub_server.faults import Faults
from tests.hub_server.routes import answer
from tests.hub_server.state import State
from tests.hub_server.wire import Call, Port, Reply, Request

_FOREIGN = ("HF_", "HUGGING", "TRANSFORMERS_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class HubServer(State):
    """A Hub on loopback, from construction until `close` or the end of a `with`.

    page: how many entries of a tree, commits or models come in one answer.
    requests: the log, in the order of arrival. faults: what shall go wrong.
    bugs: errors of this Hub itself, which no client's retry should hide; the end of a `with` raises the first.
    """

    def __init__(self, page: int = 1000) -> None:
        super().__init__(page)
        self.faults = Faults()
        self.requests: list[Request] = []
        self.bugs: list[Exception] = []
        self.stopped = threading.Event()
        self._ports = (Port(self), Port(self))
        self.url, self.storage_url = (port.url for port in self._ports)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None and self.bugs:
            raise self.bugs[0]

    def close(self) -> None:
        """Stop; whoever still waits for an answer loses the connection."""
        self.stopped.set()
        for port in self._ports:
            port.stop()

    def answer(self, call: Call) -> Reply:
        """Raises HubError."""
        return answer(self, call)

    def asked(self, match: str = "") -> list[str]:
        """The requests so far as `METHOD /path?query`, those that contain the text."""
        return [str(request) for request in list(self.requests) if match in str(request)]

    def environment(self, token: str | None = None, *, cache: Path) -> dict[str, str]:
        """The whole environment of a child process that knows no Hub but this one, and nobody's token but this."""
        kept = {name: text for name, text in os.environ.items() if not name.upper().startswith(_FOREIGN)}
        named = {"HF_TOKEN": token} if token is not None else {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
        return {
            **kept,
            **named,
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
        }
