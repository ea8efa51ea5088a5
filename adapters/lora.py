"""Low-rank adaptation as data: the weights of an adapter, and the one product that applies them.

An adapter is not grafted into a model. It is handed to the forward pass, which adds, for the packed tokens of
each adapter, the low-rank update of Hu et al. 2021 (arXiv:2106.09685, eq. 3) to the frozen product.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onetrunk.adapters.modules import MODULES as MODULES

Target = tuple[int, str]
"""A layer's index and one of `MODULES`."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """One update, scale * B A.  a: (rank, d_in); b: (d_out, rank); scale: alpha / rank."""

    a: Tensor
    b: Tensor
    scale: float

    def to(self, device: torch.device, dtype: torch.dtype) -> LowRank:
        """Return the update on `device` in `dtype`; a cast keeps the graph to trainable weights."""
        return LowRank(self.a.to(device, dtype), self.b.to(device, dtype), self.scale)


@dataclass(frozen=True, slots=True)
class Lora:
    """The updates of one adapter, by target.

    flat: the one tensor of which every factor is a view, as `onetrunk.adapters.flat` lays it out; None where the
        factors stand apart, as those that train do.
    """

    updates: Mapping[Target, LowRank]
    flat: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> Lora:
        """Return the adapter on `device` in `dtype`."""
        return Lora({target: update.to(device, dtype) for target, update in self.updates.items()})

    @property
    def parameters(self) -> list[Tensor]:
        """Every A and B, in a fixed order."""
        return [factor for target in sorted(self.updates) for factor in _factors(self.updates[target])]

    @property
    def first_layer(self) -> int | None:
        """The lowest adapted layer; None when nothing is adapted."""
        return min((layer for layer, _ in self.updates), default=None)


def _factors(update: LowRank) -> tuple[Tensor, Tensor]:
    return update.a, update.b


def init_lora(
    shapes: Mapping[Target, tuple[int, int]],
    rank: int,
    alpha: float,
    generator: torch.Generator | None = None,
) -> Lora:
    """Make a fresh adapter: A uniform as PEFT's (Kaiming with a = sqrt 5), B zero, so that it changes nothing yet.

    shapes: (d_out, d_in) of each linear to adapt.
    """
    updates = {}
    for target in sorted(shapes):
        d_out, d_in = shapes[target]
        bound = d_in**-0.5
        a = torch.empty(rank, d_in).uniform_(-bound, bound, generator=generator)
        updates[target] = LowRank(a, torch.zeros(d_out, rank), alpha / rank)
    return Lora(updates)


@dataclass(frozen=True, slots=True)
class Patch:
    """Updates for the packed rows start:stop of one product; each part goes to the output columns from `column`."""

    start: int
    stop: int
    parts: tuple[tuple[int, LowRank], ...]


def patched_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, patches: Sequence[Patch], mask: Tensor | None = None
) -> Tensor:
    """Return x W^T + b with the low-rank updates of `patches` added on their rows and columns.

    x: (tokens, d_in); weight: (d_out, d_in); bias: (d_out,) or None; mask: (tokens, d_in) dropout mask, already
    divided by the keep probability, for the input of the updates only.  Returns (tokens, d_out).
    """
    if not patches:
        return F.linear(x, weight, bias)
    factors = [factor for patch in patches for _, update in patch.parts for factor in _factors(update)]
    y: Tensor = _PatchedLinear.apply(x, weight, bias, mask, patches, *factors)  # type: ignore[no-untyped-call]
    return y


class _PatchedLinear(torch.autograd.Function):
    """One node for the frozen product and its updates: no full-width temporary a part, no graph for W."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        mask: Tensor | None,
        patches: Sequence[Patch],
        *_factors: Tensor,
    ) -> Tensor:
        y = F.linear(x, weight, bias)
        dropped = x if mask is None else x * mask
        down = []
        for patch in patches:
            z = dropped[patch.start : patch.stop] @ _stacked(patch).T
            for (column, update), part in zip(patch.parts, _split(z, patch), strict=True):
                if update.scale != 1.0:  # it is folded into B where an adapter serves
                    part *= update.scale
                y[patch.start : patch.stop, column : column + update.b.shape[0]].addmm_(part, update.b.T)
            down.append(z)
        ctx.save_for_backward(dropped, weight, mask, *down)
        ctx.patches = patches
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gy,) = grads
        dropped, weight, mask, *down = ctx.saved_tensors
        needs_x = ctx.needs_input_grad[0]
        gx = gy @ weight if needs_x else None
        factor_grads: list[Tensor | None] = []
        for patch, z in zip(ctx.patches, down, strict=True):
            rows = slice(patch.start, patch.stop)
            gz = torch.empty_like(z)
            pieces = zip(patch.parts, _split(z, patch), _split(gz, patch), strict=True)
            gb = [_backward_part(gy[rows], column, update, part, g) for (column, update), part, g in pieces]
            ga = gz.T @ dropped[rows]
            for (_, update), part_b in zip(patch.parts, gb, strict=True):
                part_a, ga = ga[: update.a.shape[0]], ga[update.a.shape[0] :]
                factor_grads += [part_a, part_b]
            if gx is not None:
                back = gz @ _stacked(patch)
                gx[rows] += back if mask is None else back * mask[rows]
        return gx, None, None, None, None, *factor_grads


def _backward_part(gy: Tensor, column: int, update: LowRank, z: Tensor, gz: Tensor) -> Tensor:
    """Fill `gz` (rows, rank) with the gradient of the scaled down-projection's input; return the gradient of B."""
    own = gy[:, column : column + update.b.shape[0]]
    torch.mm(own, update.b, out=gz) if gz.is_contiguous() else gz.copy_(own @ update.b)
    gz *= update.scale
    return own.T @ z


def _stacked(patch: Patch) -> Tensor:
    """Return the A of all parts, (sum of ranks, d_in), so that the input is read once: a view if they allow it."""
    factors = [update.a for _, update in patch.parts]
    if len(factors) == 1:
        return factors[0]
    if all(map(_follows, factors, factors[1:])):
        return factors[0].as_strided((sum(map(len, factors)), factors[0].shape[1]), factors[0].stride())
    return torch.cat(factors)


def _follows(before: Tensor, after: Tensor) -> bool:
    """Return whether `after` begins, in the same memory, where `before` ends."""
    return (
        before.data_ptr() + before.nbytes == after.data_ptr()
        and before.untyped_storage().data_ptr() == after.untyped_storage().data_ptr()
        and before.shape[1] == after.shape[1]
        and before.is_contiguous()
        and after.is_contiguous()
    )


def _split(z: Tensor, patch: Patch) -> Iterable[Tensor]:
    return torch.split(z, [update.a.shape[0] for _, update in patch.parts], dim=1)
