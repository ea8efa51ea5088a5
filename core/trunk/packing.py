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

from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.tasks import Rows
from onetrunk.core.trunk.attention import Sequences
from onetrunk.core.trunk.batching import by_budget
from onetrunk.core.trunk.device_copy import to_device

PART_TOKENS = 2048
"""Training runs a text larger than a batch in parts of so many tokens, or of a batch: less saves little memory."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The packed rows start:stop, all of one slot."""

    start: int
    stop: int
    slot: int


@dataclass(frozen=True, slots=True)
class Part:
    """Sequences that run through the trunk together.

    ids, positions: (tokens,) int64.
    segments: the ranges of equal slots, in order.
    sequences: which rows attend to which.
    """

    ids: Tensor
    positions: Tensor
    segments: tuple[Segment, ...]
    sequences: Sequences

    @property
    def tokens(self) -> int:
        """Number of packed tokens."""
        return self.ids.shape[0]

    def to(self, device: torch.device) -> Part:
        """Return the part on `device`."""
        ids, positions = to_device(self.ids, device), to_device(self.positions, device)
        return replace(self, ids=ids, positions=positions, sequences=self.sequences.to(device))


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch, as the trunk reads it.

    parts: the packed rows, in order; more than one where a text is too long to be run at once.
    source: (tokens,) int64; the row of each packed row among the windows of the texts end to end, as given.
    join: (rows,) int64; the packed row of each row of the texts, in the order the texts were given; None when the
        packed order is the texts' order.
    first_rows: for each text of several windows, its first joined row and the packed first rows of its windows.
    offsets: (texts + 1,) joined rows of each text; words: joined row of each word; word_offsets: (texts + 1,).
    """

    parts: tuple[Part, ...]
    source: Tensor
    join: Tensor | None
    first_rows: tuple[tuple[int, Tensor], ...]
    offsets: tuple[int, ...]
    words: Tensor
    word_offsets: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Number of packed tokens."""
        return self.source.shape[0]

    def to(self, device: torch.device) -> Packed:
        """Return the batch on `device`."""
        if device == self.source.device:
            return self
        return replace(
            self,
            parts=tuple(part.to(device) for part in self.parts),
            source=to_device(self.source, device),
            join=None if self.join is None else to_device(self.join, device),
            first_rows=tuple((row, to_device(windows, device)) for row, windows in self.first_rows),
            words=to_device(self.words, device),
        )

    def rows(self, first: int, last: int) -> Rows:
        """Return the layout of the texts first:last, counted from the first row of text `first`."""
        base = self.offsets[first]
        offsets = to_device(torch.tensor(self.offsets[first : last + 1]) - base, self.source.device)
        words = self.words[self.word_offsets[first] : self.word_offsets[last]] - base
        return Rows(offsets, words)


def pack(
    texts: Sequence[Encoded], slots: Sequence[int], first_position: int = 0, most: int | None = None
) -> Packed:
    """Pack `texts`, each with its slot (any integer; rows of equal slots become one segment of a part).

    first_position: position of a sequence's first token (0 for BERT, padding id + 1 for RoBERTa).
    most: tokens of a part, at most, but for a sequence that has more by itself; None for one part.
    """
    windows = [(slot, len(ids), ids) for text, slot in zip(texts, slots, strict=True) for ids in text.windows]
    order = sorted(range(len(windows)), key=lambda i: windows[i][:2])
    lengths = [length for _, length, _ in windows]
    starts = np.empty(len(windows), dtype=np.int64)
    starts[order] = [0, *accumulate(lengths[i] for i in order[:-1])]
    given = [0, *accumulate(lengths)]
    source = np.concatenate([np.arange(given[i], given[i + 1]) for i in order])
    offsets = (0, *accumulate(text.rows for text in texts))
    join, first_rows = _join(texts, starts, offsets)
    words = np.concatenate([text.words + start for text, start in zip(texts, offsets, strict=False)])
    cuts = [order] if most is None else by_budget(order, lengths, most)
    return Packed(
        parts=tuple(_part([windows[i] for i in cut], first_position) for cut in cuts),
        source=torch.from_numpy(source),
        join=None if np.array_equal(join, np.arange(len(source))) else torch.from_numpy(join),
        first_rows=first_rows,
        offsets=offsets,
        words=torch.from_numpy(words),
        word_offsets=(0, *accumulate(len(text.words) for text in texts)),
    )


def joined(hidden: Tensor, packed: Packed) -> Tensor:
    """Return the rows of whole texts, in the order given: (tokens, width) → (rows, width).

    The first row of a text of several windows is the mean of theirs, so that a head on it sees the whole text.
    """
    if packed.join is None:
        return hidden
    out = hidden.index_select(0, packed.join)
    for row, windows in packed.first_rows:
        out[row] = hidden.index_select(0, windows).mean(0)
    return out


def _part(windows: Sequence[tuple[int, int, np.ndarray]], first_position: int) -> Part:
    """Return the part of `windows` (slot, length, ids), which are in packed order."""
    lengths = [length for _, length, _ in windows]
    return Part(
        ids=torch.from_numpy(np.concatenate([ids for _, _, ids in windows])),
        positions=torch.from_numpy(
            np.concatenate([_positions(ids, first_position) for _, _, ids in windows])
        ),
        segments=_segments([slot for slot, _, _ in windows], lengths),
        sequences=Sequences(lengths),
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
