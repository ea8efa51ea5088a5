"""What the service needs of what answers: an engine in its own process, or several on other machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from onetrunk.adapters.methods.bank import Usage
from onetrunk.core.serving.engine.events import Observer
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import Input, Result
from onetrunk.core.serving.engine.status import Served, Status


@dataclass(frozen=True, slots=True)
class About:
    """What computes: the backbone's public name, its device (`cpu`, `cuda:0`) and the trunk's precision."""

    backbone: str
    device: str
    precision: str


class Desk(Protocol):
    """Takes what clients ask. Each method is as `Engine` has it."""

    @property
    def limits(self) -> Limits:
        """The bounds of a request."""

    @property
    def observer(self) -> Observer:
        """Who hears of what happens."""

    @property
    def about(self) -> About:
        """What computes."""

    @property
    def usage(self) -> Usage:
        """What the banks hold, and have moved."""

    async def answer(self, inputs: Sequence[Input], *, wait: bool = False) -> list[Result]:
        """Return what comes of each input."""

    async def load(self, name: str, reference: str) -> tuple[Served, str | None]:
        """Put a reference in service; return it and the version that it replaced."""

    async def unload(self, name: str) -> None:
        """Take a name out of service."""

    def versions(self) -> dict[str, str]:
        """Return the version that serves under each name."""

    def served(self) -> list[Served]:
        """Return what is served, by name."""

    def one(self, name: str) -> Served:
        """Return what serves as `name`."""

    def status(self) -> Status:
        """Return how it does."""

    async def drain(self) -> None:
        """Take no more requests, and return when all that were accepted have been answered."""
