"""Attention over a packed batch: by a kernel for packed sequences if there is one, else in padded blocks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onetrunk.core.backbones.kernels import has_packed_attention, packed_attention
from onetrunk.core.trunk.attention_blocks import Blocks, lay_out
from onetrunk.core.trunk.device_copy import to_device


class Sequences:
    """The lengths of packed sequences, in order, with the tensors on `device` that attention needs."""

    def __init__(self, lengths: Sequence[int], device: torch.device | None = None) -> None:
        self.lengths = tuple(lengths)
        self.device = device or torch.device("cpu")

    @cached_property
    def blocks(self) -> Blocks:
        """The sequences in blocks with some padding."""
        return lay_out(self.lengths).to(self.device)

    @cached_property
    def equal_blocks(self) -> Blocks:
        """The sequences in blocks of one length each, without padding."""
        return lay_out(self.lengths, waste=0, few=0).to(self.device)

    @cached_property
    def starts(self) -> Tensor:
        """(sequences + 1,) int32: the first row of each sequence, and the number of tokens."""
        return to_device(torch.tensor([0, *accumulate(self.lengths)], dtype=torch.int32), self.device)

    @property
    def longest(self) -> int:
        """The largest length, or more."""
        return max(self.lengths)

    def to(self, device: torch.device) -> Sequences:
        """Return the sequences on `device`."""
        return self if device == self.device else Sequences(self.lengths, device)


def attend(qkv: Tensor, sequences: Sequences, heads: int) -> Tensor:
    """Multi-head self-attention within each sequence (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).

    qkv: (rows, 3 * width), query, key and value side by side; the tokens of `sequences`, then any number of rows.
    Returns (tokens, width).
    """
    width = qkv.shape[1] // 3
    if has_packed_attention(qkv.device, qkv.dtype, width // heads):
        attended = packed_attention(qkv.view(len(qkv), 3, heads, -1), sequences.starts, sequences.longest)
        return attended.reshape(len(qkv), width)
    # Without gradients a CPU is fastest with the fused kernel, in float32 and without a mask. In bf16, oneDNN would
    # also keep memory for each shape of a product (docs/performance.md, 2026-11-27).
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
    """qkv: (count, length, 3, heads, size); keep: see `AttentionBlock`.  Returns (count, length, heads, size)."""
    count, length, _, heads, size = qkv.shape
    if qkv.is_cuda or not qkv.requires_grad:
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=keep).transpose(1, 2)
    # With gradients plain products are faster on a CPU: the fused kernel has a slow backward pass with a mask.
    q, k, v = qkv.permute(2, 0, 3, 1, 4).reshape(3, count * heads, length, size)
    bias = torch.zeros(1, 1, 1, dtype=q.dtype)
    if keep is not None:
        bias = torch.zeros(keep.shape, dtype=q.dtype).masked_fill_(~keep, float("-inf"))
        bias = bias.expand(count, heads, 1, length).reshape(count * heads, 1, length)
    scores = torch.baddbmm(bias, q * size**-0.5, k.transpose(1, 2))
    return torch.bmm(scores.softmax(-1), v).view(count, heads, length, size).transpose(1, 2)


class _Rearrange(torch.autograd.Function):
    """Gather rows. The gradient is gathered as well, which is faster than the additions of a general gather.

    That is exact, because no gradient reaches a padding row that repeats another row: as a key it is masked, as a
    query its output is dropped. `padding` lists the rows of x whose gradient is zero.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, padding: Tensor | None) -> Tensor:
        """Return x[index].

        x: (rows, width); index: (out rows,) int64.
        inverse: (rows,) int64, a row of the output for each row of x.
        padding: (padding rows,) int64, the rows of x that the output does not have; None without any.
        """
        ctx.save_for_backward(inverse, padding)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of x, (rows, width), of the gradient of the output, (out rows, width)."""
        inverse, padding = ctx.saved_tensors
        grad = grads[0].index_select(0, inverse)
        return (grad if padding is None else grad.index_fill_(0, padding, 0)), None, None, None
