"""LoRA as data: the weights of an adapter, and the linear product that applies them.

No module is wrapped. The forward pass takes adapters as an argument and adds their low-rank updates (Hu et al.
2021, arXiv:2106.09685, eq. 3) to the outputs of the frozen linear layers. A batch is packed: its tokens are rows of
one matrix, without padding, and an adapter changes only the rows of its texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from onetrunk.adapters.methods.target_modules import MODULES as MODULES

Target = tuple[int, str]
"""A layer's index and one of `MODULES`."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """The update scale * B A of one weight matrix. a: (rank, d_in); b: (d_out, rank); scale: alpha / rank."""

    a: Tensor
    b: Tensor
    scale: float


@dataclass(frozen=True, slots=True)
class Lora:
    """The LoRA weights of one adapter.

    updates: by layer and module.
    flat: one tensor (numbers,) that holds all A and B, which are views of it (see `flat_layout`); None if they are
        separate tensors, as in training.
    """

    updates: Mapping[Target, LowRank]
    flat: Tensor | None = None
    _updates: dict[tuple[int, tuple[str, ...]], Update | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def to(self, device: torch.device, dtype: torch.dtype) -> Lora:
        """Return the adapter on `device` in `dtype`, as separate tensors. Gradients flow through the conversion."""
        moved = {
            target: LowRank(own.a.to(device, dtype), own.b.to(device, dtype), own.scale)
            for target, own in self.updates.items()
        }
        return Lora(moved)

    def on(self, layer: int, modules: tuple[str, ...], width: int) -> Update | None:
        """Return the update of `modules`, which one product computes; None if the adapter changes none of them.

        width: number of output columns of each module.
        """
        key = layer, modules
        if key not in self._updates:
            found = ((i * width, self.updates.get((layer, module))) for i, module in enumerate(modules))
            parts = tuple((column, own) for column, own in found if own is not None)
            self._updates[key] = Update(parts) if parts else None
        return self._updates[key]

    @property
    def parameters(self) -> list[Tensor]:
        """All A (rank, d_in) and B (d_out, rank), in the order of targets."""
        ordered = (self.updates[target] for target in sorted(self.updates))
        return [factor for update in ordered for factor in (update.a, update.b)]

    @property
    def first_layer(self) -> int | None:
        """The lowest layer with an update; None without updates."""
        return min((layer for layer, _ in self.updates), default=None)


def init_lora(
    shapes: Mapping[Target, tuple[int, int]],
    rank: int,
    alpha: float,
    generator: torch.Generator | None = None,
) -> Lora:
    """Return a new adapter as PEFT initialises it: A uniform (Kaiming with a = sqrt 5), B = 0.

    shapes: (d_out, d_in) of each linear layer to adapt.
    generator: source of the random numbers; None for torch's global generator.
    """
    updates = {}
    for target in sorted(shapes):
        d_out, d_in = shapes[target]
        bound = d_in**-0.5
        a = torch.empty(rank, d_in).uniform_(-bound, bound, generator=generator)
        updates[target] = LowRank(a, torch.zeros(d_out, rank), alpha / rank)
    return Lora(updates)


class Update:
    """The updates of one adapter for the modules that one product computes, such as query, key and value.

    parts: first output column and update of each module.
    """

    def __init__(self, parts: tuple[tuple[int, LowRank], ...]) -> None:
        self.parts = parts
        self.ranks = [own.a.shape[0] for _, own in parts]

    @cached_property
    def down(self) -> Tensor:
        """The A of all parts side by side, (d_in, sum of ranks), so that one product reads the input once."""
        factors = [own.a for _, own in self.parts]
        if not all(map(_follows, factors, factors[1:])):
            return torch.cat(factors).T
        return factors[0].as_strided((sum(self.ranks), factors[0].shape[1]), factors[0].stride()).T

    @cached_property
    def ups(self) -> tuple[tuple[tuple[int, int], float, Tensor], ...]:
        """For each part: its output columns (first, number), its scale, and B transposed, (rank, d_out)."""
        return tuple(((column, own.b.shape[0]), own.scale, own.b.T) for column, own in self.parts)


@dataclass(frozen=True, slots=True)
class Patch:
    """An update for the rows start:stop of a packed batch."""

    start: int
    stop: int
    update: Update


class Frozen(Protocol):
    """The product with a frozen weight matrix, which may be that of several modules side by side."""

    def __call__(self, x: Tensor) -> Tensor:
        """Map (tokens, d_in) to a new tensor (tokens, d_out)."""

    def back(self, grad: Tensor) -> Tensor:
        """Map the gradient of the output, (tokens, d_out), to that of the input, (tokens, d_in)."""


def patched_linear(x: Tensor, frozen: Frozen, patches: Sequence[Patch], mask: Tensor | None = None) -> Tensor:
    """Return `frozen(x)` plus the low-rank updates of `patches` on their rows and columns.

    Without gradients, the updates are computed in the dtype of their A and B; with gradients, in the dtype of x.

    x: (tokens, d_in).
    patches: sorted by row, without overlaps.
    mask: (tokens, d_in) dropout mask of the updates' input, already divided by the keep probability.

    Returns (tokens, d_out).
    """
    if not patches:
        return frozen(x)
    if not torch.is_grad_enabled():
        dtype = patches[0].update.parts[0][1].a.dtype
        y, *_ = _forward(x.to(dtype), frozen(x).to(dtype), patches, mask)
        return y.to(x.dtype)
    parts = (own for patch in patches for _, own in patch.update.parts)
    factors = [factor for own in parts for factor in (own.a, own.b)]
    out: Tensor = _PatchedLinear.apply(x, frozen, mask, patches, *factors)  # type: ignore[no-untyped-call]
    return out


def _forward(
    x: Tensor, y: Tensor, patches: Sequence[Patch], mask: Tensor | None
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Add the updates of x, (tokens, d_in), to y, (tokens, d_out), in place.

    Returns y, the updates' input (tokens, d_in) after dropout, and for each patch the scaled output of A, (rows,
    sum of ranks).
    """
    dropped = x if mask is None else x * mask
    rows = _Rows(patches, len(x))
    between = []
    outputs: dict[tuple[int, int], list[Tensor]] = {}
    for i, (own, patch) in enumerate(zip(rows.of(dropped), patches, strict=True)):
        update = patch.update
        z = torch.mm(own, update.down)
        parts = (z,) if len(update.parts) == 1 else z.split_with_sizes(update.ranks, 1)
        for (columns, scale, up), part in zip(update.ups, parts, strict=True):
            if scale != 1.0:  # flat adapters have the scale in B
                part *= scale
            if columns not in outputs:
                outputs[columns] = rows.of(y.narrow(1, *columns))
            outputs[columns][i].addmm_(part, up)
        between.append(z)
    return y, dropped, between


class _Rows:
    """Cuts a tensor into the rows of each patch, with one split. Slices would take ten times as long."""

    def __init__(self, patches: Sequence[Patch], count: int) -> None:
        self._sizes: list[int] = []
        self._kept: list[int] = []
        row = 0
        for patch in patches:
            if patch.start > row:
                self._sizes.append(patch.start - row)
            self._kept.append(len(self._sizes))
            self._sizes.append(patch.stop - patch.start)
            row = patch.stop
        self._sizes.append(count - row)

    def of(self, x: Tensor) -> list[Tensor]:
        views = x.split_with_sizes(self._sizes)
        return [views[i] for i in self._kept]


class _PatchedLinear(torch.autograd.Function):
    """The frozen product with its updates, as one node of autograd's graph.

    Without this class, autograd would keep a (tokens, d_out) temporary for each part. This node keeps the input and
    the outputs of A. With y = x W^T + s (m x) A^T B^T (s: scale, m: mask, g: gradient of y):
    gradient of B: s g^T (m x) A^T; gradient of A: s (g B)^T (m x); gradient of x: g W + m (s g B A).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, frozen: Frozen, mask: Tensor | None, patches: Sequence[Patch], *_factors: Tensor
    ) -> Tensor:
        # autograd computes gradients only of arguments, so the A and B of all patches are arguments, too
        y, dropped, between = _forward(x, frozen(x), patches, mask)
        ctx.save_for_backward(dropped, mask, *between)
        ctx.frozen, ctx.patches = frozen, patches
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gy,) = grads
        dropped, mask, *between = ctx.saved_tensors
        gx = ctx.frozen.back(gy) if ctx.needs_input_grad[0] else None
        factor_grads: list[Tensor | None] = []
        for patch, z in zip(ctx.patches, between, strict=True):
            rows, ranks = slice(patch.start, patch.stop), patch.update.ranks
            gz = torch.empty_like(z)
            pieces = zip(patch.update.parts, z.split(ranks, dim=1), gz.split(ranks, dim=1), strict=True)
            gb = [_backward_part(gy[rows], column, own, part, g) for (column, own), part, g in pieces]
            for part_a, part_b in zip((gz.T @ dropped[rows]).split(ranks), gb, strict=True):
                factor_grads += [part_a, part_b]
            if gx is not None:
                back = gz @ patch.update.down.T
                gx[rows] += back if mask is None else back * mask[rows]
        return gx, None, None, None, *factor_grads


def _backward_part(gy: Tensor, column: int, update: LowRank, z: Tensor, gz: Tensor) -> Tensor:
    """Fill `gz`, (rows, rank), with the gradient of A's output; return the gradient of B, (d_out, rank).

    gy: (rows, columns of the product), its gradient.
    column: first column of the update.
    z: (rows, rank), the scaled output of A.
    """
    own = gy[:, column : column + update.b.shape[0]]
    torch.mm(own, update.b, out=gz) if gz.is_contiguous() else gz.copy_(own @ update.b)
    gz *= update.scale
    return own.T @ z


def _follows(before: Tensor, after: Tensor) -> bool:
    """Tell whether the A `after`, (rank, d_in), begins in memory where the A `before` ends."""
    return (
        before.data_ptr() + before.nbytes == after.data_ptr()
        and before.untyped_storage().data_ptr() == after.untyped_storage().data_ptr()
        and before.shape[1] == after.shape[1]
        and before.is_contiguous()
        and after.is_contiguous()
    )
