"""Packed batches: the tokens of many sequences end to end, without padding.

A packed row is one token. A slot is a number that stands for an adapter. Sequences are ordered by slot, then by
length: the rows of one adapter are one range, and sequences of similar lengths are neighbours. A text with more
tokens than the backbone has positions is several sequences (windows); `joined` merges their rows, each token once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.backbones.device import to_device
from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.tasks import Rows
from onetrunk.core.trunk.attention import CPU, Sequences
from onetrunk.core.trunk.batching import by_budget

PART_TOKENS = 512
"""Training runs a batch in parts of at least this many tokens: smaller parts would save little memory."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The packed rows start:stop, all of which have one slot."""

    start: int
    stop: int
    slot: int


@dataclass(frozen=True, slots=True)
class Part:
    """Sequences that run through the trunk together.

    ids, positions: (tokens,) int64, the token id and the index of the position embedding of each row.
    segments: the range of rows of each slot, in order.
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


@dataclass(frozen=True, slots=True)
class Packed:
    """The input of a trunk: a batch of texts.

    Besides the packed rows there are the rows of the texts: those of each `Encoded`, in the order given to `pack`.

    parts: the packed rows, in order; several parts if the texts are too long to run at once.
    source: (tokens,) int64, for each packed row, the index of its token in the texts' windows, in the given order.
    join: (rows,) int64, the packed row of each row of the texts; None if both are in the same order.
    first_rows: for each text of several windows, its first row, and (windows,) int64, the first packed row of each
        window.
    offsets: (texts + 1,) the first row of each text, then the number of rows.
    words: (words,) int64, the row of each word's first token.
    word_offsets: (texts + 1,) the index in `words` of each text's first word, then the number of words.
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

    def each_part(self) -> Iterator[Packed]:
        """Yield each part as a batch, to run it alone. Its rows of texts stay those of the whole batch."""
        start = 0
        for part in self.parts:
            yield replace(self, parts=(part,), source=self.source[start : start + part.tokens])
            start += part.tokens

    def rows(self, first: int, last: int) -> Rows:
        """Return the rows and words of the texts first:last. They count from the first row of text `first`."""
        base = self.offsets[first]
        offsets = to_device(torch.tensor(self.offsets[first : last + 1]) - base, self.source.device)
        words = self.words[self.word_offsets[first] : self.word_offsets[last]] - base
        return Rows(offsets, words)


class _Window(NamedTuple):
    slot: int
    length: int
    ids: np.ndarray
    first_position: int


def pack(
    texts: Sequence[Encoded], slots: Sequence[int], most: int | None = None, device: torch.device = CPU
) -> Packed:
    """Pack texts into one batch on `device`.

    slots: the slot of each text, any integer.
    most: largest number of tokens of a part; a longer sequence is a part of its own. None for one part.
    """
    windows = [
        _Window(slot, len(ids), ids, text.first_position)
        for text, slot in zip(texts, slots, strict=True)
        for ids in text.windows
    ]
    order = sorted(range(len(windows)), key=lambda i: windows[i][:2])  # by slot and length
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
        parts=tuple(_part([windows[i] for i in cut], device) for cut in cuts),
        source=to_device(source, device),
        join=None if np.array_equal(join, np.arange(len(source))) else to_device(join, device),
        first_rows=tuple((row, to_device(starts, device)) for row, starts in first_rows),
        offsets=offsets,
        words=to_device(words, device),
        word_offsets=(0, *accumulate(len(text.words) for text in texts)),
    )


def joined(hidden: Tensor, packed: Packed) -> Tensor:
    """Return the rows of the texts, (rows, width); hidden: (tokens, width), the packed rows.

    The first row of a text of several windows is the mean of the windows' first rows: a head that reads only this
    row uses the whole text.
    """
    if packed.join is None:
        return hidden
    out = hidden.index_select(0, packed.join)
    for row, windows in packed.first_rows:
        out[row] = hidden.index_select(0, windows).mean(0)
    return out


def joined_parts(parts: Iterable[Tensor], packed: Packed) -> Tensor:
    """Return the same as `joined`, from the packed rows (tokens, width) of each part, in order.

    Only the result and one part are in memory.
    """
    join = torch.arange(packed.tokens) if packed.join is None else packed.join.cpu()
    order = join.argsort()
    ends = torch.tensor(list(accumulate(part.tokens for part in packed.parts)))
    cuts = torch.searchsorted(join[order], ends).tolist()  # the rows of the texts, in the order of the parts
    states = iter(parts)
    first = next(states)
    out = first.new_empty(len(join), first.shape[1])
    sums: dict[int, Tensor] = {}
    done = start = 0
    for hidden, cut, end in zip(chain([first], states), cuts, ends.tolist(), strict=True):
        rows = order[done:cut]
        out[to_device(rows, out.device)] = hidden.index_select(0, to_device(join[rows] - start, out.device))
        for row, windows in packed.first_rows:
            own = windows[(windows >= start) & (windows < end)] - start
            sums[row] = sums.get(row, 0) + hidden.index_select(0, own).float().sum(0)
        done, start = cut, end
    for row, windows in packed.first_rows:
        out[row] = (sums[row] / len(windows)).to(out.dtype)
    return out


def joined_windows(text: Encoded, states: Sequence[Tensor]) -> Tensor:
    """Return the rows of one text, (rows, width), as `joined` does; states: (tokens, width) of each window."""
    hidden = torch.cat(list(states))
    starts = np.asarray([0, *accumulate(map(len, states))])
    out = hidden.index_select(0, to_device(starts[text.join_window] + text.join_row, hidden.device))
    if len(states) > 1:
        out[0] = hidden.index_select(0, to_device(starts[:-1], hidden.device)).mean(0)
    return out


def _part(windows: Sequence[_Window], device: torch.device) -> Part:
    """Return the part of `windows`, which are in packed order."""
    ids = np.concatenate([window.ids for window in windows])
    positions = np.concatenate([_positions(window.ids, window.first_position) for window in windows])
    segments, start = [], 0
    for slot, group in groupby(windows, key=lambda window: window.slot):
        stop = start + sum(window.length for window in group)
        segments.append(Segment(start, stop, slot))
        start = stop
    return Part(
        ids=to_device(ids, device),
        positions=to_device(positions, device),
        segments=tuple(segments),
        sequences=Sequences([window.length for window in windows], device),
    )


def _positions(ids: np.ndarray, first: int) -> np.ndarray:
    """Return the positions of a window's tokens, which begin at `first`.

    A text that contains the characters `<pad>` has a padding token. In RoBERTa (`first` is the padding id + 1) the
    position of such a token is the padding id, and the other tokens are numbered without it.
    """
    if not first or not (padding := ids == first - 1).any():
        return np.arange(first, first + len(ids))
    return np.where(padding, first - 1, first - 1 + np.cumsum(~padding))


def _join(
    texts: Sequence[Encoded], starts: np.ndarray, offsets: Sequence[int]
) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """Return `Packed.join` and `Packed.first_rows`; starts: (windows,) the first packed row of each window."""
    rows, first_rows, window = [], [], 0
    for text, offset in zip(texts, offsets, strict=False):
        own = starts[window : window + len(text.windows)]
        rows.append(own[text.join_window] + text.join_row)
        if len(own) > 1:
            first_rows.append((offset, own.copy()))
        window += len(own)
    return np.concatenate(rows), first_rows
