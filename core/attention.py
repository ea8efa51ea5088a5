"""Attention over a packed batch: sequences of like length side by side in blocks, padded only within a block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

WASTE = 0.125
"""A block takes longer sequences as long as its padding stays below this share of its tokens."""

SHORT = 96
"""On the CPU, sequences up to this length are attended by plain products: the border that was measured."""


@dataclass(frozen=True, slots=True)
class Block:
    """Sequences laid out as (count, length); keep: (count, 1, 1, length) bool, None where nothing is padded."""

    count: int
    length: int
    keep: Tensor | None


@dataclass(frozen=True, slots=True)
class AttentionPlan:
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

    def to(self, device: torch.device) -> AttentionPlan:
        """Return the plan on `device`."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device)

        blocks = tuple(Block(block.count, block.length, moved(block.keep)) for block in self.blocks)
        return AttentionPlan(blocks, moved(self.pad), moved(self.unpad), moved(self.padding))


def plan_attention(lengths: Sequence[int]) -> AttentionPlan:
    """Plan blocks for sequences of `lengths`, packed in this order."""
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
        return AttentionPlan(tuple(blocks), None, None, None)
    return AttentionPlan(tuple(blocks), torch.tensor(pad), unpad, torch.tensor(padding, dtype=torch.int64))


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


def attend(qkv: Tensor, plan: AttentionPlan, heads: int) -> Tensor:
    """Multi-head self-attention within each sequence (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).

    qkv: (tokens, 3 * width), query, key and value side by side.  Returns (tokens, width).
    """
    width = qkv.shape[1] // 3
    padded = qkv if plan.pad is None else _Rearrange.apply(qkv, plan.pad, plan.unpad, None)  # type: ignore[no-untyped-call]
    outputs, start = [], 0
    for block in plan.blocks:
        rows = block.count * block.length
        own = padded[start : start + rows].view(block.count, block.length, 3, heads, width // heads)
        outputs.append(_attend_block(own, block.keep).reshape(rows, width))
        start += rows
    out = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    if plan.pad is None:
        return out
    packed: Tensor = _Rearrange.apply(out, plan.unpad, plan.pad, plan.padding)  # type: ignore[no-untyped-call]
    return packed


def _attend_block(qkv: Tensor, keep: Tensor | None) -> Tensor:
    """qkv: (count, length, 3, heads, size).  Returns (count, length, heads, size)."""
    count, length, _, heads, size = qkv.shape
    if qkv.is_cuda or (length > SHORT and not qkv.requires_grad):
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=keep).transpose(1, 2)
    # On the CPU plain products are faster for short sequences, and in the backward pass with a mask for all.
    q, k, v = qkv.permute(2, 0, 3, 1, 4).reshape(3, count * heads, length, size)
    bias = torch.zeros(1, 1, 1, dtype=q.dtype)
    if keep is not None:
        bias = torch.zeros(keep.shape, dtype=q.dtype).masked_fill_(~keep, float("-inf"))
        bias = bias.expand(count, heads, 1, length).reshape(count * heads, 1, length)
    scores = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=size**-0.5)
    return torch.bmm(scores.softmax(-1), v).view(count, heads, length, size).transpose(1, 2)


class _Rearrange(torch.autograd.Function):
    """Rows of x by `index`; the gradient comes back by `inverse`, without the additions of a general gather.

    That is right because padding rows get no gradient: as keys they are masked, as queries they are dropped, and
    on the way out `padding` names the rows whose gradient must be zero.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, padding: Tensor | None) -> Tensor:
        ctx.save_for_backward(inverse, padding)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inverse, padding = ctx.saved_tensors
        grad = grads[0].index_select(0, inverse)
        return (grad if padding is None else grad.index_fill_(0, padding, 0)), None, None, None
