"""Arranges packed sequences in blocks of similar lengths for attention; padding is only within a block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.trunk.device_copy import to_device

WASTE = 0.125
"""A block grows while its padding is at most this share of its rows, or at most `FEW` rows."""
FEW = 32
"""Rows of padding that cost less time than another block."""


@dataclass(frozen=True, slots=True)
class AttentionBlock:
    """Sequences in one rectangle.

    count: number of sequences; length: rows of each, padding included.
    keep: (count, 1, 1, length) bool, False for padding; None without padding.
    """

    count: int
    length: int
    keep: Tensor | None


@dataclass(frozen=True, slots=True)
class Blocks:
    """Packed rows in blocks.

    blocks: the blocks, in order.
    pad: (block rows,) int64, the packed row of each row of the blocks; padding repeats its sequence's first row.
    unpad: (tokens,) int64, the block row of each packed row.
    padding: (padding rows,) int64, the block rows that are padding.
    The three are None if the blocks have the packed order and no padding.
    """

    blocks: tuple[AttentionBlock, ...]
    pad: Tensor | None
    unpad: Tensor | None
    padding: Tensor | None

    def to(self, device: torch.device) -> Blocks:
        """Return the blocks on `device`."""

        def here(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else to_device(tensor, device)

        blocks = tuple(AttentionBlock(block.count, block.length, here(block.keep)) for block in self.blocks)
        return Blocks(blocks, here(self.pad), here(self.unpad), here(self.padding))


def lay_out(lengths: Sequence[int], waste: float = WASTE, few: int = FEW) -> Blocks:
    """Arrange sequences of `lengths`, packed in this order, in blocks.

    waste, few: bounds of a block's padding, as `WASTE` and `FEW`; with 0 and 0 no block has padding.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    starts = np.concatenate(([0], np.cumsum(sizes)))
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    blocks: list[AttentionBlock] = []
    pad: list[np.ndarray] = []
    real: list[np.ndarray] = []
    for group in _groups(order, lengths, waste, few):
        longest = lengths[group[-1]]
        first, inside = starts[group][:, None], np.arange(longest) < sizes[group][:, None]
        pad.append(np.where(inside, first + np.arange(longest), first).ravel())
        real.append(inside.ravel())
        keep = None if inside.all() else torch.from_numpy(inside)[:, None, None, :]
        blocks.append(AttentionBlock(len(group), longest, keep))
    rows, is_real = np.concatenate(pad), np.concatenate(real)
    if is_real.all() and np.array_equal(rows, np.arange(len(rows))):
        return Blocks(tuple(blocks), None, None, None)
    unpad = np.empty(starts[-1], dtype=np.int64)
    unpad[rows[is_real]] = np.flatnonzero(is_real)
    padding = np.flatnonzero(~is_real)
    return Blocks(tuple(blocks), *map(torch.from_numpy, (rows, unpad, padding)))


def _groups(order: Sequence[int], lengths: Sequence[int], waste: float, few: int) -> list[list[int]]:
    """Cut sequences, in order of length, into groups whose padding is within `waste` or `few`."""
    groups: list[list[int]] = []
    tokens = 0
    for sequence in order:
        n = lengths[sequence]
        rows = (len(groups[-1]) + 1) * n if groups else 0
        if groups and rows - (tokens + n) <= max(waste * rows, few):
            groups[-1].append(sequence)
            tokens += n
        else:
            groups.append([sequence])
            tokens = n
    return groups
