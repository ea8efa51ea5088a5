"""What the service needs of what answers: an engine in its own process, or several on other machines."""

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
    """What computes: the backbone's public name, its device (`cpu`, `cuda:0`) and the trunk's precision."""

    backbone: str
    device: str
    precision: str


class ServingBackend(Protocol):
    """Takes what clients ask. Each method is as `Engine` has it."""

    @property
    def limits(self) -> Limits:
        """The bounds of a request."""

    @property
    def events(self) -> EventSink:
        """Who hears of what happens."""

    @property
    def info(self) -> BackendInfo:
        """What computes."""

    @property
    def usage(self) -> Usage:
        """What the banks hold, and have moved."""

    async def answer(self, inputs: Sequence[TextRequest], *, wait: bool = False) -> list[Result]:
        """Return what comes of each input."""

    async def load(self, name: str, reference: str) -> tuple[AdapterStatus, str | None]:
        """Put a reference in service; return it and the version that it replaced."""

    async def unload(self, name: str) -> None:
        """Take a name out of service."""

    def versions(self) -> dict[str, str]:
        """Return the version that serves under each name."""

    def adapters(self) -> list[AdapterStatus]:
        """Return what is served, by name."""

    def adapter(self, name: str) -> AdapterStatus:
        """Return what serves as `name`."""

    def status(self) -> EngineStatus:
        """Return how it does."""

    async def drain(self) -> None:
        """Take no more requests, and return when all that were accepted have been answered."""
