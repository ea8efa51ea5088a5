"""Event sink: the interface through which the engine reports events to metrics and logs."""

from __future__ import annotations

from collections.abc import Sequence


class EventSink:
    """Receives serving events and ignores them; subclasses override methods to count or log them.

    Every method is called from any thread. It must return quickly and must not raise.
    """

    def batch(self, tokens: int, texts: int, adapters: int, waits: Sequence[float], seconds: float) -> None:
        """Report a batch that was computed.

        adapters: number of distinct loaded versions in the batch.
        waits: queueing delay of each text, in seconds.
        seconds: duration of the batch.
        """

    def answered(self, name: str, seconds: float) -> None:
        """Report an answer of the served name `name`, `seconds` after its request arrived."""

    def failed(self, error: Exception) -> None:
        """Report a text or a request that was refused or failed."""

    def swapped(self, name: str, version: str, previous: str | None) -> None:
        """Report that `version` now serves as `name`; `previous` is the version it replaced, if any."""

    def load_failed(self, name: str, error: Exception) -> None:
        """Report a failed load; the version that served before stays in service."""

    def unloaded(self, name: str) -> None:
        """Report that `name` was taken out of service."""
