"""Packed batches: the tokens of many sequences end to end, without padding.

Sequences are ordered by slot, then by length: the rows of one adapter are one range, and sequences of similar
lengths are neighbours. A text that is longer than the backbone's positions becomes several sequences (windows);
`Packed.join` merges their rows, each token once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.tasks import Rows
from onetrunk.core.trunk.attention import Sequences
from onetrunk.core.trunk.batching import by_budget
from onetrunk.core.trunk.device_copy import to_device

PART_TOKENS = 2048
"""Training runs a larger text in parts of this many tokens, or of a batch: smaller parts save little memory."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The packed rows start:stop, all of which have one slot."""

    start: int
    stop: int
    slot: int


@dataclass(frozen=True, slots=True)
class Part:
    """Sequences that run through the trunk together.

    ids, positions: (tokens,) int64.
    segments: the ranges of rows of each slot, in order.
    sequences: the ranges of rows that attend to each other.
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
    """The input of a trunk: a batch of texts.

    parts: the packed rows, in order; several parts if the texts are too long to run at once.
    source: (tokens,) int64, the row of each packed row among the texts' windows, end to end in the given order.
    join: (rows,) int64, the packed row of each row of the texts in the given order; None if the orders are equal.
    first_rows: for each text of several windows, its first row, and (windows,) int64, the first packed row of each.
    offsets: (texts + 1,) the first row of each text, and the number of rows.
    words: (words,) int64, the row of each word's first token.
    word_offsets: (texts + 1,) the index in `words` of each text's first word, and the number of words.
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
        """Return the rows and words of the texts first:last, relative to the first row of text `first`."""
        base = self.offsets[first]
        offsets = to_device(torch.tensor(self.offsets[first : last + 1]) - base, self.source.device)
        words = self.words[self.word_offsets[first] : self.word_offsets[last]] - base
        return Rows(offsets, words)


class _Window(NamedTuple):
    """One sequence; the order of packed sequences is that of the first two fields."""

    slot: int
    length: int
    ids: np.ndarray
    first_position: int


def pack(texts: Sequence[Encoded], slots: Sequence[int], most: int | None = None) -> Packed:
    """Pack texts into one batch.

    slots: the slot of each text, any integer; in a part, rows of equal slots are one segment.
    most: largest number of tokens of a part; a longer sequence is a part of its own. None for one part.
    """
    windows = [
        _Window(slot, len(ids), ids, text.first_position)
        for text, slot in zip(texts, slots, strict=True)
        for ids in text.windows
    ]
    order = sorted(range(len(windows)), key=lambda i: windows[i][:2])
    lengths = [window.length for window in windows]
    starts = np.empty(len(windows), dtype=np.int64)
    starts[order] = [0, *accumulate(lengths[i] for i in order[:-1])]
    given = [0, *accumulate(lengths)]
    source = np.concatenate([np.arange(given[i], given[i + 1]) for i in order])
    offsets = (0, *accumulate(text.rows for text in texts))
    join, first_rows = _join(texts, starts, offsets)
    words = np.concatenate([text.words + start for text, start in zip(texts, offsets, strict=False)])
    cuts = [order] if most is None else by_budget(order, lengths, most)
    return Packed(
        parts=tuple(_part([windows[i] for i in cut]) for cut in cuts),
        source=torch.from_numpy(source),
        join=None if np.array_equal(join, np.arange(len(source))) else torch.from_numpy(join),
        first_rows=first_rows,
        offsets=offsets,
        words=torch.from_numpy(words),
        word_offsets=(0, *accumulate(len(text.words) for text in texts)),
    )


def joined(hidden: Tensor, packed: Packed) -> Tensor:
    """Return the rows of the texts, (rows, width), in the given order; hidden: (tokens, width), in packed order.

    The first row of a text of several windows is the mean of the windows' first rows: a head on it uses the whole
    text.
    """
    if packed.join is None:
        return hidden
    out = hidden.index_select(0, packed.join)
    for row, windows in packed.first_rows:
        out[row] = hidden.index_select(0, windows).mean(0)
    return out


def _part(windows: Sequence[_Window]) -> Part:
    """Return the part of `windows`, which are in packed order."""
    lengths = [window.length for window in windows]
    return Part(
        ids=torch.from_numpy(np.concatenate([window.ids for window in windows])),
        positions=torch.from_numpy(
            np.concatenate([_positions(own.ids, own.first_position) for own in windows])
        ),
        segments=_segments([window.slot for window in windows], lengths),
        sequences=Sequences(lengths),
    )


def _positions(ids: np.ndarray, first: int) -> np.ndarray:
    """Return the positions of a window's tokens, which begin at `first`.

    RoBERTa (`first` is the padding id + 1) does not count padding tokens, as in transformers. A text that contains
    the characters `<pad>` has such a token; its position is the padding id.
    """
    if not first or not (padding := ids == first - 1).any():
        return np.arange(first, first + len(ids))
    return np.where(padding, first - 1, first - 1 + np.cumsum(~padding))


def _join(
    texts: Sequence[Encoded], starts: np.ndarray, offsets: Sequence[int]
) -> tuple[np.ndarray, tuple[tuple[int, Tensor], ...]]:
    """Return `Packed.join` and `Packed.first_rows`; starts: (windows,) the first packed row of each window."""
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
