"""Serving backend: the operations that the HTTP layer needs, from an engine in this process or a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from onetrunk.adapters.methods.bank import Usage
from onetrunk.core.serving.engine.events import EventSink
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import Result, TextRequest
from onetrunk.core.serving.engine.status import AdapterStatus, EngineStatus


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """Static facts of a backend.

    backbone: public name of the backbone.
    device: torch device, such as `cpu` or `cuda:0`.
    precision: precision of the frozen trunk.
    """

    backbone: str
    device: str
    precision: str


class ServingBackend(Protocol):
    """Answers requests, and loads and unloads adapters."""

    @property
    def limits(self) -> Limits:
        """The limits of a request and of the queue."""

    @property
    def events(self) -> EventSink:
        """The sink that receives all serving events."""

    @property
    def info(self) -> BackendInfo:
        """Backbone, device and precision."""

    @property
    def usage(self) -> Usage:
        """Memory and transfers of the adapter banks."""

    async def answer(self, inputs: Sequence[TextRequest], *, wait: bool = False) -> list[Result]:
        """Return the result of each text; an error of one text does not affect the others.

        wait: wait for capacity in the queue instead of raising QueueFull.
        Raises QueueFull, OverTime or ShuttingDown if the request as a whole cannot be answered.
        """

    async def load(self, name: str, reference: str) -> tuple[AdapterStatus, str | None]:
        """Load the version that `reference` means now, and serve it as `name`.

        Returns its status, and the version it replaced, if any. Raises OneTrunkError if the load fails; the
        version that served before then stays in service.
        """

    async def unload(self, name: str) -> None:
        """Take `name` out of service. Raises UnknownName."""

    def versions(self) -> dict[str, str]:
        """Return the version in service for each served name."""

    def adapters(self) -> list[AdapterStatus]:
        """Return the status of each served adapter, sorted by name."""

    def adapter(self, name: str) -> AdapterStatus:
        """Return the status of the adapter that serves as `name`. Raises UnknownName."""

    def status(self) -> EngineStatus:
        """Return the state of the queue and the load."""

    async def drain(self) -> None:
        """Refuse new requests, and return when all accepted ones are answered."""
