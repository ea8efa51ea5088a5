"""Adds the LoRA updates of a batch to its products: adapter by adapter, or on a GPU as grouped products.

A frozen product is a product with a pretrained weight. A grouped product is one kernel that multiplies the rows of
each adapter with the matrix of that adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from onetrunk.adapters.methods.flat_layout import FactorBlock, FlatLayout, layout_of
from onetrunk.adapters.methods.lora import Frozen, Lora, Patch, patched_linear
from onetrunk.core.backbones.device import to_device
from onetrunk.core.backbones.kernels import grouped_product, has_grouped_products
from onetrunk.core.trunk.dropout import Masks
from onetrunk.core.trunk.packing import Segment

_ALIGNED = 16
"""Strides of grouped products must be multiples of this many bytes."""

Updates = Callable[[Tensor, Frozen, int, tuple[str, ...], int], Tensor]
"""Computes products of a batch with its LoRA updates: (x, frozen, layer, modules, width) → product.

x: (tokens, d_in).
frozen: the product with the pretrained weights of `modules` of `layer`; their updates are added.
width: number of output columns of each module.
product: (tokens, modules * width); (tokens, d_out) for one module.
"""

SharedStates = tuple[Tensor, Tensor]
"""Hidden states (states, width), and (tokens,) int64, the index of the state of each packed row."""


@dataclass(frozen=True, slots=True)
class SharedProduct:
    """A frozen product of packed rows of which some are equal: it computes equal rows once.

    states, source: the rows, as `SharedStates`.
    """

    frozen: Frozen
    states: Tensor
    source: Tensor

    def __call__(self, x: Tensor) -> Tensor:  # noqa: ARG002
        """Return the product, (tokens, d_out); x: (tokens, d_in), the packed rows, is not used."""
        return self.frozen(self.states).index_select(0, self.source)

    def back(self, grad: Tensor) -> Tensor:
        """Map the gradient of the output, (tokens, d_out), to that of the packed rows, (tokens, d_in)."""
        return self.frozen.back(grad)


class Patches:
    """`Updates` as small products, one for each segment (the rows of one adapter). They support gradients."""

    def __init__(
        self, segments: tuple[Segment, ...], adapters: Mapping[int, Lora], masks: Masks | None
    ) -> None:
        self._segments, self._masks = segments, masks
        self._runs = [(own, adapters[own.slot]) for own in segments if own.slot in adapters]

    def __call__(self, x: Tensor, frozen: Frozen, layer: int, modules: tuple[str, ...], width: int) -> Tensor:
        """Return `frozen(x)` plus the updates of `modules`, in the shapes of `Updates`."""
        found = ((own, lora.on(layer, modules, width)) for own, lora in self._runs)
        patches = [Patch(own.start, own.stop, update) for own, update in found if update is not None]
        mask = self._masks.of(x, self._segments) if self._masks is not None and patches else None
        return patched_linear(x, frozen, patches, mask)


class Stack:
    """`Updates` as grouped products, for adapters of one memory layout.

    As in Punica (Chen et al. 2023, arXiv:2310.18547, section 4), one kernel multiplies with A and one with B.

    flat: (runs, numbers), all factors of the adapter of each run of rows.
    stops: (runs,) int32, the row after each run.
    """

    def __init__(self, flat: Tensor, stops: Tensor, layout: FlatLayout) -> None:
        self._flat, self._stops, self._layout = flat, stops, layout

    @classmethod
    def of(cls, loras: Sequence[Lora | None], stops: Tensor) -> Stack | None:
        """Stack adapters; return None if they have no shared layout.

        loras: the adapter of each run of rows, None for a run without one.
        stops: (runs,) int32, the row after each run.
        """
        layout = shared_layout(loras)
        if layout is None:
            return None
        flats = [None if lora is None else lora.flat for lora in loras]
        nothing = torch.zeros_like(next(flat for flat in flats if flat is not None))
        stacked = torch.stack([nothing if flat is None else flat for flat in flats])
        return cls(stacked, stops, layout)

    def __call__(self, x: Tensor, frozen: Frozen, layer: int, modules: tuple[str, ...], width: int) -> Tensor:
        """Return `frozen(x)` plus the updates of `modules`, in the shapes of `Updates`."""
        y = frozen(x)
        columns = {(layer, module): i * width for i, module in enumerate(modules)}
        blocks = [block for block in self._layout.blocks if block.target in columns]
        if not blocks:
            return y
        z = grouped_product(x, self._down(blocks).transpose(1, 2), self._stops)
        for block, part in zip(blocks, z.split_with_sizes([b.rank for b in blocks], 1), strict=True):
            update = grouped_product(part, self._up(block).transpose(1, 2), self._stops)
            y.narrow(1, columns[block.target], block.d_out).add_(update)
        return y

    def _down(self, blocks: Sequence[FactorBlock]) -> Tensor:
        """Return the A factors of modules with one input, (runs, sum of ranks, d_in): neighbours in memory."""
        first = blocks[0]
        ranks = sum(block.rank for block in blocks)
        shape, strides = (len(self._flat), ranks, first.d_in), (self._layout.size, first.d_in, 1)
        return self._flat.as_strided(shape, strides, self._flat.storage_offset() + first.a)

    def _up(self, block: FactorBlock) -> Tensor:
        """Return the B factors of a module, (runs, d_out, rank)."""
        shape, strides = (len(self._flat), block.d_out, block.rank), (self._layout.size, block.rank, 1)
        return self._flat.as_strided(shape, strides, self._flat.storage_offset() + block.b)


def shared_layout(loras: Sequence[Lora | None]) -> FlatLayout | None:
    """Return the layout of all adapters; None without one, or if grouped products cannot compute them together."""
    known = [lora for lora in loras if lora is not None]
    if not known or any(lora.flat is None for lora in known):
        return None
    layout = layout_of(known[0])
    equal = all(layout_of(lora) is layout for lora in known)
    return layout if equal and _is_aligned(known[0]) else None


def _is_aligned(lora: Lora) -> bool:
    size = 4 if lora.flat is None else lora.flat.itemsize
    return all(number * size % _ALIGNED == 0 for own in lora.updates.values() for number in own.a.shape)


def changing(segments: tuple[Segment, ...], adapters: Mapping[int, Lora]) -> list[Lora | None]:
    """Return the adapter of each segment; None for a segment without an adapter or with one that has no updates."""
    found = (adapters.get(own.slot) for own in segments)
    return [lora if lora is not None and lora.updates else None for lora in found]


def updates_of(
    segments: tuple[Segment, ...], adapters: Mapping[int, Lora], like: Tensor, masks: Masks | None
) -> Updates:
    """Return the updates of a batch: a `Stack` on a GPU in bf16 without gradients, if it can be; else `Patches`.

    segments: the ranges of rows; each has a slot, the number of an adapter.
    adapters: by slot.
    like: hidden states (tokens, width) with the device and dtype of the batch.
    masks: dropout of the inputs, None without dropout.
    """
    if masks is None and not torch.is_grad_enabled() and has_grouped_products(like.device, like.dtype):
        stops = to_device(torch.tensor([own.stop for own in segments], dtype=torch.int32), like.device)
        if stack := Stack.of(changing(segments, adapters), stops):
            return stack
    return Patches(segments, adapters, masks)
