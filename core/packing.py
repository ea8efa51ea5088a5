"""Packed batches: the tokens of many sequences end to end, and where each text stands among them.

Sequences are ordered by slot, then by length, so that the rows of one adapter are one range (one small product
an adapter) and attention finds sequences of like length side by side. Texts longer than the backbone's positions
are several sequences (windows); `join` puts their rows together again, each token once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.attention import AttentionPlan, plan_attention
from onetrunk.core.encoding import Encoded
from onetrunk.core.tasks import Rows


@dataclass(frozen=True, slots=True)
class Segment:
    """The packed rows start:stop, all of one slot."""

    start: int
    stop: int
    slot: int


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch, as the trunk reads it.

    ids, positions: (tokens,) int64.
    segments: the ranges of equal slots, in order.
    attention: which rows attend to which.
    source: (tokens,) int64; the row of each packed row among the windows of the texts end to end, as given.
    join: (rows,) int64; the packed row of each row of the texts, in the order the texts were given; None when the
        packed order is the texts' order.
    first_rows: for each text of several windows, its first joined row and the packed first rows of its windows.
    offsets: (texts + 1,) joined rows of each text; words: joined row of each word; word_offsets: (texts + 1,).
    """

    ids: Tensor
    positions: Tensor
    segments: tuple[Segment, ...]
    attention: AttentionPlan
    source: Tensor
    join: Tensor | None
    first_rows: tuple[tuple[int, Tensor], ...]
    offsets: tuple[int, ...]
    words: Tensor
    word_offsets: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Number of packed tokens."""
        return self.ids.shape[0]

    def to(self, device: torch.device) -> Packed:
        """Return the batch on `device`."""
        if device == self.ids.device:
            return self
        moved = {name: getattr(self, name).to(device) for name in ("ids", "positions", "source", "words")}
        join = None if self.join is None else self.join.to(device)
        first_rows = tuple((row, windows.to(device)) for row, windows in self.first_rows)
        return replace(self, **moved, join=join, first_rows=first_rows, attention=self.attention.to(device))

    def rows(self, first: int, last: int) -> Rows:
        """Return the layout of the texts first:last, counted from the first row of text `first`."""
        base = self.offsets[first]
        offsets = torch.tensor(self.offsets[first : last + 1], device=self.ids.device) - base
        words = self.words[self.word_offsets[first] : self.word_offsets[last]] - base
        return Rows(offsets, words)


def pack(texts: Sequence[Encoded], slots: Sequence[int], first_position: int = 0) -> Packed:
    """Pack `texts`, each with its slot (any integer; rows of equal slots become one segment).

    first_position: position of a sequence's first token (0 for BERT, padding id + 1 for RoBERTa).
    """
    windows = [(slot, len(ids), ids) for text, slot in zip(texts, slots, strict=True) for ids in text.windows]
    order = sorted(range(len(windows)), key=lambda i: windows[i][:2])
    lengths = [windows[i][1] for i in order]
    starts = np.empty(len(windows), dtype=np.int64)
    starts[order] = [0, *accumulate(lengths[:-1])]
    given = [0, *accumulate(length for _, length, _ in windows)]
    source = np.concatenate([np.arange(given[i], given[i + 1]) for i in order])
    ids = np.concatenate([windows[i][2] for i in order])
    positions = np.concatenate([_positions(windows[i][2], first_position) for i in order])
    offsets = (0, *accumulate(text.rows for text in texts))
    join, first_rows = _join(texts, starts, offsets)
    words = np.concatenate([text.words + start for text, start in zip(texts, offsets, strict=False)])
    return Packed(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        segments=_segments([windows[i][0] for i in order], lengths),
        attention=plan_attention(lengths),
        source=torch.from_numpy(source),
        join=None if np.array_equal(join, np.arange(len(ids))) else torch.from_numpy(join),
        first_rows=first_rows,
        offsets=offsets,
        words=torch.from_numpy(words),
        word_offsets=(0, *accumulate(len(text.words) for text in texts)),
    )


def _positions(ids: np.ndarray, first: int) -> np.ndarray:
    """Return the positions of a window's tokens: RoBERTa, as transformers has it, does not count padding tokens.

    A text has one where it spells it out, `<pad>`; its position is the padding id.
    """
    if not first or not (padding := ids == first - 1).any():
        return np.arange(first, first + len(ids))
    return np.where(padding, first - 1, first - 1 + np.cumsum(~padding))


def _join(
    texts: Sequence[Encoded], starts: np.ndarray, offsets: Sequence[int]
) -> tuple[np.ndarray, tuple[tuple[int, Tensor], ...]]:
    """Return the packed row of every joined row, and the first rows of texts that have several windows."""
    rows, first_rows, window = [], [], 0
    for text, offset in zip(texts, offsets, strict=False):
        own = starts[window : window + len(text.windows)]
        rows.append(own[text.join_window] + text.join_row)
        if len(own) > 1:
            first_rows.append((offset, torch.from_numpy(own.copy())))
        window += len(own)
    return np.concatenate(rows), tuple(first_rows)


def _segments(slots: Sequence[int], lengths: Sequence[int]) -> tuple[Segment, ...]:
    segments, start = [], 0
    for slot, group in groupby(zip(slots, lengths, strict=True), key=lambda pair: pair[0]):
        stop = start + sum(length for _, length in group)
        segments.append(Segment(start, stop, slot))
        start = stop
    return tuple(segments)
