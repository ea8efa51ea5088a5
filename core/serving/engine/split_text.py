"""A text that is too long for one batch: it is computed in parts, which are queued one after the other.

A part has some windows of the text for some of its adapters, at most as many tokens as a batch, or one window.
Only a few parts of a text are queued at a time. Other texts therefore wait for a part, not for the text; and a text
whose client has gone costs nothing more.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onetrunk.core.errors import OneTrunkError
from onetrunk.core.serving.engine.requests import Flow, WorkItem

if TYPE_CHECKING:
    from torch import Tensor

    from onetrunk.core.backbones.tokenization import Encoded


@dataclass(slots=True, eq=False)
class TextPart:
    """A part of a text.

    pieces: the index of an adapter, and the index of a window of the text.
    queued_at: as in `WorkItem`.
    """

    text: SplitText
    pieces: Sequence[tuple[int, int]]
    queued_at: float = 0.0

    @property
    def cost(self) -> int:
        """Number of tokens."""
        return sum(self.text.tokens(*piece) for piece in self.pieces)

    @property
    def flow(self) -> Flow:
        """The queue of the text."""
        return self.text.item.flow


class SplitText:
    """The parts of a tokenised text and their results. Thread-safe.

    budget: maximum tokens of a part; a longer window is a part of its own.
    item: the text. Its `costs` count the parts that are not computed yet.
    logits: the logits for each adapter, once all its windows are computed.
    error: the first error of a part; no further part is computed then.
    """

    def __init__(self, item: WorkItem, budget: int) -> None:
        self.item = item
        self.error: OneTrunkError | None = None
        self.logits: list[np.ndarray | None] = [None] * len(item.held)
        self._states: list[list[Tensor | None]] = [[None] * len(own.windows) for own in item.encoded]
        self._waiting = deque(self._parts(budget))
        self._queued: set[TextPart] = set()  # queued, or in a batch
        self._lock = threading.Lock()

    def tokens(self, adapter: int, window: int) -> int:
        """Return the number of tokens of a window."""
        return len(self.item.encoded[adapter].windows[window])

    def window(self, adapter: int, window: int) -> Encoded:
        """Return a window as a text of its own."""
        return self.item.encoded[adapter].window(window)

    def start(self, count: int) -> list[TextPart]:
        """Return the first parts to queue, at most `count`; none if the client has gone."""
        with self._lock:
            return self._next(count)

    def cancel(self) -> list[TextPart]:
        """Drop the parts that are not queued yet. Returns those that are queued or in a batch."""
        with self._lock:
            self._waiting.clear()
            return list(self._queued)

    def add(self, adapter: int, window: int, states: Tensor) -> list[Tensor] | None:
        """Store the hidden states (tokens, width) of a window. Returns those of all windows with the last one."""
        with self._lock:
            own = self._states[adapter]
            own[window] = states
            complete = [each for each in own if each is not None]
            if len(complete) < len(own):
                return None
            self._states[adapter] = []
            return complete

    def ended(self, part: TextPart, error: OneTrunkError | None = None) -> tuple[list[TextPart], bool]:
        """Record that a part was computed, has failed, or was dropped.

        Returns the next part to queue, if there is one, and whether all parts of the text have ended.
        """
        with self._lock:
            self.error = self.error or error
            for adapter, window in part.pieces:
                self.item.costs[adapter] -= self.tokens(adapter, window)
            self._queued.discard(part)
            return self._next(1), not self._queued

    def _next(self, count: int) -> list[TextPart]:
        """Return the next parts, and count them as queued; none if the client has gone or a part has failed."""
        if self.item.request.abandoned or self.error is not None:
            self._waiting.clear()
        parts = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        self._queued.update(parts)
        return parts

    def _parts(self, budget: int) -> list[TextPart]:
        """Return all parts: the windows of each adapter in order, as many in a part as fit."""
        parts: list[list[tuple[int, int]]] = []
        left = 0
        for adapter, encoded in enumerate(self.item.encoded):
            for window, ids in enumerate(encoded.windows):
                if not parts or len(ids) > left:
                    parts.append([])
                    left = budget
                parts[-1].append((adapter, window))
                left -= len(ids)
        return [TextPart(self, pieces) for pieces in parts]
