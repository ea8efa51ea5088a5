"""How packed sequences stand in blocks: like lengths side by side, padded only within a block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from onetrunk.core.transfer import moved

WASTE = 0.125
"""A block takes longer sequences as long as its padding stays below this share of its tokens."""


@dataclass(frozen=True, slots=True)
class Block:
    """Sequences laid out as (count, length); keep: (count, 1, 1, length) bool, None where nothing is padded."""

    count: int
    length: int
    keep: Tensor | None


@dataclass(frozen=True, slots=True)
class Blocks:
    """How packed rows stand in blocks.

    blocks: in order; together they have `padded` rows.
    pad: (padded rows,) the packed row of each block row, a repeated row where it is padding.
    unpad: (tokens,) the block row of each packed row.
    padding: (padding rows,) the block rows that are padding.
    All three are None when the blocks are the packed order itself.
    """

    blocks: tuple[Block, ...]
    pad: Tensor | None
    unpad: Tensor | None
    padding: Tensor | None

    def to(self, device: torch.device) -> Blocks:
        """Return the blocks on `device`."""

        def here(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else moved(tensor, device)

        blocks = tuple(Block(block.count, block.length, here(block.keep)) for block in self.blocks)
        return Blocks(blocks, here(self.pad), here(self.unpad), here(self.padding))


def lay_out(lengths: Sequence[int]) -> Blocks:
    """Lay out sequences of `lengths`, packed in this order."""
    starts = [0, *accumulate(lengths)]
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    blocks: list[Block] = []
    pad: list[int] = []
    padding: list[int] = []
    unpad = torch.empty(starts[-1], dtype=torch.int64)
    for group in _groups(order, lengths):
        longest = lengths[group[-1]]
        base = sum(block.count * block.length for block in blocks)
        for i, sequence in enumerate(group):
            first, n, row = starts[sequence], lengths[sequence], base + i * longest
            pad += [*range(first, first + n), *[first] * (longest - n)]
            unpad[first : first + n] = torch.arange(row, row + n)
            padding += range(row + n, row + longest)
        blocks.append(Block(len(group), longest, _keep([lengths[s] for s in group], longest)))
    if pad == list(range(starts[-1])):
        return Blocks(tuple(blocks), None, None, None)
    return Blocks(tuple(blocks), torch.tensor(pad), unpad, torch.tensor(padding, dtype=torch.int64))


def _groups(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Cut sequences in order of length into groups whose padding stays below `WASTE`."""
    groups: list[list[int]] = []
    tokens = 0
    for sequence in order:
        n = lengths[sequence]
        if groups and (len(groups[-1]) + 1) * n * (1 - WASTE) <= tokens + n:
            groups[-1].append(sequence)
            tokens += n
        else:
            groups.append([sequence])
            tokens = n
    return groups


def _keep(lengths: Sequence[int], longest: int) -> Tensor | None:
    if lengths[0] == longest:
        return None
    return (torch.arange(longest) < torch.tensor(lengths)[:, None])[:, None, None, :]
