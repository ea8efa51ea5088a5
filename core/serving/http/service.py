"""`HttpService`: the objects that all handlers share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.responses import Response

from onetrunk.core.serving.engine.backend import ServingBackend
from onetrunk.core.serving.http.auth import Access
from onetrunk.core.serving.http.json_log import EventLog
from onetrunk.core.serving.http.prometheus import Metrics
from onetrunk.core.serving.http.request import BodyReader, RequestContext


@dataclass(slots=True)
class HttpService:
    """The objects that all handlers share.

    engine: the backend that answers texts and loads adapters.
    draining: whether new texts are refused, and each connection is closed after its next response.
    stream_readers: the tasks that read the bodies of open streams.
    """

    engine: ServingBackend
    access: Access
    metrics: Metrics
    log: EventLog
    body_reader: BodyReader
    draining: bool = False
    stream_readers: set[asyncio.Task[None]] = field(default_factory=set)

    def begin_shutdown(self) -> None:
        """Set `draining`, and stop reading the open streams; the lines read so far are still answered."""
        self.draining = True
        for reader in self.stream_readers:
            reader.cancel()


Handler = Callable[[HttpService, RequestContext], Awaitable[Response]]
"""Answers the requests of a route. May raise OneTrunkError and Starlette's ClientDisconnect."""
