"""Attention over a packed batch: by a kernel for packed sequences if there is one, else in blocks with padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from onetrunk.core.backbones.device import to_device
from onetrunk.core.backbones.kernels import has_packed_attention, packed_attention

CPU = torch.device("cpu")
WASTE = 0.125
"""A block takes another sequence while its padding is at most this share of its rows, or at most `FEW` rows."""
FEW = 32
"""Number of padding rows that take less time than a block of their own."""


@dataclass(frozen=True, slots=True)
class AttentionBlock:
    """Sequences of similar lengths, padded to the longest.

    count: number of sequences.
    length: rows of each sequence, padding included.
    keep: (count, 1, 1, length) bool, False for padding; None without padding.
    """

    count: int
    length: int
    keep: Tensor | None


@dataclass(frozen=True, slots=True)
class Blocks:
    """The rows of packed sequences, arranged in blocks.

    The three tensors are None if the rows of the blocks are the packed rows in their order.
    pad: (block rows,) int64, the packed row of each row of the blocks; padding repeats its sequence's first row.
    unpad: (tokens,) int64, the block row of each packed row.
    padding: (padding rows,) int64, the block rows that are padding.
    """

    blocks: tuple[AttentionBlock, ...]
    pad: Tensor | None
    unpad: Tensor | None
    padding: Tensor | None


def lay_out(
    lengths: Sequence[int], device: torch.device = CPU, waste: float = WASTE, few: int = FEW
) -> Blocks:
    """Arrange packed sequences in blocks on `device`; lengths: of the sequences, in packed order.

    waste, few: bounds of a block's padding, see `WASTE` and `FEW`; with 0 and 0 no block has padding.
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
        keep = None if inside.all() else to_device(inside, device)[:, None, None, :]
        blocks.append(AttentionBlock(len(group), longest, keep))
    rows, is_real = np.concatenate(pad), np.concatenate(real)
    if is_real.all() and np.array_equal(rows, np.arange(len(rows))):
        return Blocks(tuple(blocks), None, None, None)
    unpad = np.empty(starts[-1], dtype=np.int64)
    unpad[rows[is_real]] = np.flatnonzero(is_real)
    indices = (rows, unpad, np.flatnonzero(~is_real))
    return Blocks(tuple(blocks), *(to_device(each, device) for each in indices))


def _groups(order: Sequence[int], lengths: Sequence[int], waste: float, few: int) -> list[list[int]]:
    """Return the sequences of each block; order: the sequences by length."""
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


class Sequences:
    """The lengths of packed sequences, in packed order, with the tensors that attention requires on `device`."""

    def __init__(self, lengths: Sequence[int], device: torch.device = CPU) -> None:
        self.lengths, self.device = tuple(lengths), device

    @cached_property
    def blocks(self) -> Blocks:
        """The sequences in blocks, which may have padding."""
        return lay_out(self.lengths, self.device)

    @cached_property
    def equal_blocks(self) -> Blocks:
        """The sequences in blocks of one length each, without padding."""
        return lay_out(self.lengths, self.device, waste=0, few=0)

    @cached_property
    def starts(self) -> Tensor:
        """(sequences + 1,) int32: the first row of each sequence, then the number of tokens."""
        return to_device(torch.tensor([0, *accumulate(self.lengths)], dtype=torch.int32), self.device)

    @cached_property
    def longest(self) -> int:
        """Number of tokens of the longest sequence, or more."""
        return max(self.lengths)


def attend(qkv: Tensor, sequences: Sequences, heads: int) -> Tensor:
    """Multi-head self-attention within each sequence (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).

    qkv: (rows, 3 * width), query, key and value side by side. Rows after the tokens of `sequences` are ignored.
    Returns (tokens, width).
    """
    width = qkv.shape[1] // 3
    if has_packed_attention(qkv.device, qkv.dtype, width // heads):
        attended = packed_attention(qkv.view(len(qkv), 3, heads, -1), sequences.starts, sequences.longest)
        return attended.reshape(len(qkv), width)
    # Without gradients a CPU is fastest with the fused kernel, in float32 and without a mask. In bf16, oneDNN also
    # keeps memory for each shape of a product (docs/performance.md, 2026-11-27).
    exact = qkv.device.type == "cpu" and not qkv.requires_grad
    plan = sequences.equal_blocks if exact else sequences.blocks
    padded = qkv if plan.pad is None else _Rearrange.apply(qkv, plan.pad, plan.unpad, None)  # type: ignore[no-untyped-call]
    padded = padded.float() if exact and qkv.itemsize < 4 else padded
    outputs, start = [], 0
    for block in plan.blocks:
        rows = block.count * block.length
        own = padded[start : start + rows].view(block.count, block.length, 3, heads, width // heads)
        outputs.append(_attend_block(own, block.keep).reshape(rows, width))
        start += rows
    out = (outputs[0] if len(outputs) == 1 else torch.cat(outputs)).to(qkv.dtype)
    if plan.pad is None:
        return out
    packed: Tensor = _Rearrange.apply(out, plan.unpad, plan.pad, plan.padding)  # type: ignore[no-untyped-call]
    return packed


def _attend_block(qkv: Tensor, keep: Tensor | None) -> Tensor:
    """Return (count, length, heads, size); qkv: (count, length, 3, heads, size); keep: see `AttentionBlock`."""
    count, length, _, heads, size = qkv.shape
    if qkv.is_cuda or not qkv.requires_grad:
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=keep).transpose(1, 2)
    # With gradients, plain products are faster on a CPU: the backward pass of the fused kernel is slow with a mask.
    q, k, v = qkv.permute(2, 0, 3, 1, 4).reshape(3, count * heads, length, size)
    bias = torch.zeros(1, 1, 1, dtype=q.dtype)
    if keep is not None:
        bias = torch.zeros(keep.shape, dtype=q.dtype).masked_fill_(~keep, float("-inf"))
        bias = bias.expand(count, heads, 1, length).reshape(count * heads, 1, length)
    scores = torch.baddbmm(bias, q * size**-0.5, k.transpose(1, 2))
    return torch.bmm(scores.softmax(-1), v).view(count, heads, length, size).transpose(1, 2)


class _Rearrange(torch.autograd.Function):
    """Gathers rows, forward and backward. The backward pass of `index_select` adds rows, which is slower.

    Gathering the gradient is exact: a padding row, which repeats another row, has no gradient, because it is masked
    as a key and its output is dropped as a query.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, padding: Tensor | None) -> Tensor:
        """Return x[index], (out rows, width).

        x: (rows, width); index: (out rows,) int64.
        inverse: (rows,) int64, the row of the output from which each row of x takes its gradient.
        padding: (padding rows,) int64, the rows of x that the output lacks: their gradient is 0. None without any.
        """
        ctx.save_for_backward(inverse, padding)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of x, (rows, width); grads: the gradient of the output, (out rows, width)."""
        inverse, padding = ctx.saved_tensors
        grad = grads[0].index_select(0, inverse)
        return (grad if padding is None else grad.index_fill_(0, padding, 0)), None, None, None
