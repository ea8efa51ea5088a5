"""The serving backend: the operations that the HTTP layer needs, and the statistics of its requests."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from onetrunk.core.errors import OneTrunkError
from onetrunk.core.serving.engine.errors import UnknownName
from onetrunk.core.serving.engine.events import EventSink
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.stats import SlidingWindow
from onetrunk.core.serving.engine.status import AdapterStatus, BackendInfo, EngineStatus

if TYPE_CHECKING:
    from onetrunk.adapters.methods.bank import Tier, Usage
    from onetrunk.core.serving.engine.requests import Result, TextRequest
    from onetrunk.core.tasks import Labels


_ANSWER_BYTES = 256
"""Bytes of an answer without scores."""
_SCORE_BYTES = 32
"""Bytes of a score and of the marks around its label."""


class ServingBackend(ABC):
    """Answers requests, and loads and unloads adapters. Coroutines belong to one event loop.

    `Engine` computes in this process, `RayBackend` calls the replicas of a Ray cluster.

    limits: the limits of a request and of the queue.
    events: receives all serving events.
    """

    def __init__(self, limits: Limits, events: EventSink) -> None:
        self.limits, self.events = limits, events
        self._started = time.monotonic()
        self._requests = SlidingWindow()
        self._by_name: dict[str, SlidingWindow] = {}
        self._answer_bytes: dict[str, tuple[str, int]] = {}  # version and size, by name

    @abstractmethod
    async def answer(self, inputs: Sequence[TextRequest], *, wait: bool = False) -> list[Result]:
        """Return the result of each text; an error of one text does not affect the others.

        If the caller is cancelled, the texts that are still queued leave the queue.

        wait: wait for capacity in the queue instead of raising QueueFull.
        Raises QueueFull. Raises OverTime after `Limits.request_seconds`, not counting the wait for capacity. Raises
        ShuttingDown after `drain` was called.
        """

    @abstractmethod
    async def load(self, name: str, reference: str) -> tuple[AdapterStatus, str | None]:
        """Load the version that `reference` means now, and serve it as `name`.

        Returns its status, and the version it replaced, if any. Raises OneTrunkError if the load fails; the
        version that served before then stays in service.
        """

    @abstractmethod
    async def unload(self, name: str) -> None:
        """Take `name` out of service; requests that have been accepted are answered. Raises UnknownName."""

    @abstractmethod
    async def drain(self) -> None:
        """Refuse new requests, and return when all accepted ones are answered."""

    @abstractmethod
    def status(self) -> EngineStatus:
        """Return the state of the queue and the load."""

    @property
    @abstractmethod
    def info(self) -> BackendInfo:
        """Backbone, device and precision."""

    @property
    @abstractmethod
    def usage(self) -> Usage:
        """Memory and transfers of the adapter banks."""

    @property
    @abstractmethod
    def served(self) -> Mapping[str, Any]:
        """A snapshot of the served names. Each value has the attributes `version`, `reference` and `since`."""

    def names(self) -> frozenset[str]:
        """Return the served names, also those that are loaded at their next use."""
        return frozenset(self.served)

    def versions(self) -> dict[str, str]:
        """Return the version in service for each served name."""
        return {name: served.version for name, served in self.served.items()}

    def adapters(self) -> list[AdapterStatus]:
        """Return the status of each served adapter, sorted by name."""
        return [self._status_of(name, served) for name, served in sorted(self.served.items())]

    def adapter(self, name: str) -> AdapterStatus:
        """Return the status of the adapter that serves as `name`. Raises UnknownName."""
        served = self.served
        if name not in served:
            raise UnknownName(name, sorted(served))
        return self._status_of(name, served[name])

    @abstractmethod
    def _details(self, served: Any) -> tuple[str, Labels, Tier]:
        """Return the task, the labels and the tier of a value of `served`."""

    def _status_of(self, name: str, served: Any) -> AdapterStatus:
        task, labels, tier = self._details(served)
        window = self._by_name.get(name) or SlidingWindow()
        return AdapterStatus(
            name=name,
            version=served.version,
            reference=served.reference,
            task=task,
            labels=labels,
            tier=tier,
            since=served.since,
            requests=window.total,
            requests_per_second=window.rate(),
            p95=window.p95(),
        )

    def _record(self, inputs: Sequence[TextRequest], results: Sequence[Result], seconds: float) -> None:
        """Record a request that took `seconds`, and the result of each of its texts."""
        self._requests.record(seconds)
        served = self.served
        for given, result in zip(inputs, results, strict=True):
            if isinstance(result, OneTrunkError):
                self.events.failed(result)
                continue
            for name in given.adapters:
                self.events.answered(name, seconds)
                if name in served:
                    self._by_name.setdefault(name, SlidingWindow()).record(seconds)

    def answer_bytes(self, name: str) -> int:
        """Return about how many bytes an answer of the adapter served as `name` can have, with all its labels."""
        served = self.served.get(name)
        if served is None:
            return 0
        known = self._answer_bytes.get(name)
        if known is None or known[0] != served.version:
            _, labels, _ = self._details(served)
            size = _ANSWER_BYTES + sum(
                len(label.encode("utf-8", "surrogatepass")) + _SCORE_BYTES for label in labels
            )
            self._answer_bytes[name] = known = (served.version, size)
        return known[1]

    def _drop_windows(self) -> None:
        """Drop the statistics of names that are no longer served."""
        served = self.served
        self._by_name = {name: window for name, window in self._by_name.items() if name in served}
        self._answer_bytes = {name: known for name, known in self._answer_bytes.items() if name in served}
