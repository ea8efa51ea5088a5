"""Attention over a packed batch: by the kernel for sequences of any lengths where there is one, else in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from onetrunk.core.trunk.attention_blocks import Blocks, lay_out
from onetrunk.core.trunk.device_copy import to_device


class Sequences:
    """Packed sequences: `lengths`, in order, and what attention needs of them on `device`, made when first used."""

    def __init__(self, lengths: Sequence[int], device: torch.device | None = None) -> None:
        self.lengths = tuple(lengths)
        self.device = device or torch.device("cpu")

    @cached_property
    def blocks(self) -> Blocks:
        """How they stand in blocks."""
        return lay_out(self.lengths).to(self.device)

    @cached_property
    def equal_blocks(self) -> Blocks:
        """How they stand in blocks of one length each, without padding."""
        return lay_out(self.lengths, waste=0, few=0).to(self.device)

    @cached_property
    def starts(self) -> Tensor:
        """(sequences + 1,) int32; where each begins, and where the last one ends."""
        return to_device(torch.tensor([0, *accumulate(self.lengths)], dtype=torch.int32), self.device)

    @property
    def longest(self) -> int:
        """The largest of the lengths, or more."""
        return max(self.lengths)

    def to(self, device: torch.device) -> Sequences:
        """Return the sequences on `device`."""
        return self if device == self.device else Sequences(self.lengths, device)


def attend(qkv: Tensor, sequences: Sequences, heads: int) -> Tensor:
    """Multi-head self-attention within each sequence (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).

    qkv: (tokens, 3 * width), query, key and value side by side.  Returns (tokens, width).
    """
    width = qkv.shape[1] // 3
    if has_varlen(qkv.device, qkv.dtype, width // heads):
        return _by_lengths(qkv, sequences, heads)
    # On a CPU without gradients, the fused kernel is fastest in float32 and without a mask. Products in bf16 would
    # also keep memory for each shape that they ever had (docs/performance.md, 2026-11-27).
    exact = qkv.device.type == "cpu" and not qkv.requires_grad
    plan = sequences.equal_blocks if exact else sequences.blocks
    padded = qkv if plan.pad is None else _Rearrange.apply(qkv, plan.pad, plan.unpad, None)  # type: ignore[no-untyped-call]
    padded = padded.to(torch.promote_types(qkv.dtype, torch.float32)) if exact else padded
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


def has_varlen(device: torch.device, dtype: torch.dtype, size: int) -> bool:
    """Whether torch has a kernel for packed sequences there, in this precision, for heads of this size."""
    return (
        device.type == "cuda"
        and dtype in (torch.bfloat16, torch.float16)
        and size % 8 == 0
        and size <= 256
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def _by_lengths(qkv: Tensor, sequences: Sequences, heads: int) -> Tensor:
    """Attend by FlashAttention over packed sequences (Dao 2023, arXiv:2307.08691): nothing is padded."""
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = qkv.view(len(qkv), 3, heads, -1).unbind(1)
    starts, longest = sequences.starts, sequences.longest
    out = varlen_attn(q, k, v, starts, starts, longest, longest)
    return cast("Tensor", out).reshape(len(qkv), -1)  # a pair only where more is asked for


def _attend_block(qkv: Tensor, keep: Tensor | None) -> Tensor:
    """qkv: (count, length, 3, heads, size).  Returns (count, length, heads, size)."""
    count, length, _, heads, size = qkv.shape
    if qkv.is_cuda or not qkv.requires_grad:
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=keep).transpose(1, 2)
    # With gradients and a mask, plain products are faster on a CPU.
    q, k, v = qkv.permute(2, 0, 3, 1, 4).reshape(3, count * heads, length, size)
    bias = torch.zeros(1, 1, 1, dtype=q.dtype)
    if keep is not None:
        bias = torch.zeros(keep.shape, dtype=q.dtype).masked_fill_(~keep, float("-inf"))
        bias = bias.expand(count, heads, 1, length).reshape(count * heads, 1, length)
    scores = torch.baddbmm(bias, q * size**-0.5, k.transpose(1, 2))
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
