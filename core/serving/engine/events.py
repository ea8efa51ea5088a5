"""Event sink: the interface through which the engine reports events to metrics and logs."""

from __future__ import annotations

from collections.abc import Sequence


class EventSink:
    """Ignores all serving events. Subclasses override methods to count or log them.

    Any thread may call the methods. They must return quickly and must not raise.
    """

    def batch(self, tokens: int, texts: int, adapters: int, waits: Sequence[float], seconds: float) -> None:
        """Report a batch that was computed.

        tokens, texts: number of tokens and texts in the batch.
        adapters: number of distinct versions that the batch used.
        waits: queueing delay of each text, in seconds.
        seconds: duration of the computation.
        """

    def answered(self, name: str, seconds: float) -> None:
        """Report that the adapter served as `name` answered a text, `seconds` after the request arrived."""

    def tokenised(self, name: str, tokens: int, unknown: int) -> None:
        """Report the tokens of a text for the adapter served as `name`.

        unknown: number of tokens that the tokenizer cannot read, as its vocabulary lacks the characters.
        """

    def failed(self, error: Exception) -> None:
        """Report a text or a request that was refused or failed."""

    def swapped(self, name: str, version: str, previous: str | None) -> None:
        """Report that `version` is now served as `name`. previous: the version that it replaced, or None."""

    def load_failed(self, name: str, error: Exception) -> None:
        """Report a failed load; the version that served before stays in service."""

    def unloaded(self, name: str) -> None:
        """Report that `name` was taken out of service."""
