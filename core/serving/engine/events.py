"""Who hears of what a service does, such as its metrics. The engine knows no more of them than this."""

from __future__ import annotations

from collections.abc import Sequence


class EventSink:
    """Hears of events and does nothing; subclasses count. Called from any thread; must be quick and not raise."""

    def batch(self, tokens: int, texts: int, adapters: int, waits: Sequence[float], seconds: float) -> None:
        """Hear of a batch that took `seconds`; waits: seconds that each text had waited for it."""

    def answered(self, name: str, seconds: float) -> None:
        """Hear of a text that `name` has answered, `seconds` after the request came in."""

    def failed(self, error: Exception) -> None:
        """Hear of an input or a request that was refused, or that failed."""

    def swapped(self, name: str, version: str, previous: str | None) -> None:
        """Hear that `version` serves as `name`, in place of `previous`."""

    def load_failed(self, name: str, error: Exception) -> None:
        """Hear of a load that changed nothing."""

    def unloaded(self, name: str) -> None:
        """Hear that nothing serves as `name` any more."""
