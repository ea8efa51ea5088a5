"""The LoRA updates of a batch as grouped products: on a GPU, one kernel for all adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from onetrunk.adapters.methods.flat_layout import FactorBlock, FlatLayout, layout_of
from onetrunk.adapters.methods.lora import Frozen, Lora
from onetrunk.core.backbones.kernels import grouped_product
from onetrunk.core.trunk.packing import Segment

_ALIGNED = 16
"""Strides of grouped products must be multiples of this many bytes."""


class Stack:
    """Adapters of one layout, stacked, one for each run of rows of a packed batch.

    The products are those of the kernels of S-LoRA and Punica (Chen et al. 2023, arXiv:2310.18547, section 4):
    shrink, then expand, with the adapter chosen by row.

    flat: (runs, numbers of an adapter).
    stops: (runs,) int32, the row after each run.
    """

    def __init__(self, flat: Tensor, stops: Tensor, layout: FlatLayout) -> None:
        self._flat, self._stops, self._layout = flat, stops, layout

    @classmethod
    def of(cls, loras: Sequence[Lora | None], stops: Tensor) -> Stack | None:
        """Stack the adapter of each run, None for a run without one; return None if their layouts differ.

        stops: (runs,) int32, the row after each run.
        """
        known = [lora for lora in loras if lora is not None]
        if not known or any(lora.flat is None for lora in known):
            return None
        layout = layout_of(known[0])
        if any(layout_of(lora) is not layout for lora in known) or not is_aligned(known[0]):
            return None
        flats = [None if lora is None else lora.flat for lora in loras]
        nothing = torch.zeros_like(next(flat for flat in flats if flat is not None))
        stacked = torch.stack([nothing if flat is None else flat for flat in flats])
        return cls(stacked, stops, layout)

    def product(self, x: Tensor, frozen: Frozen, layer: int, modules: tuple[str, ...], width: int) -> Tensor:
        """Return `frozen(x)` plus the updates of `modules`; see `Updates.product` for the shapes."""
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
        """Return the A factors of modules with the same input, (runs, sum of ranks, d_in), which are contiguous."""
        first = blocks[0]
        ranks = sum(block.rank for block in blocks)
        shape, strides = (len(self._flat), ranks, first.d_in), (self._layout.size, first.d_in, 1)
        return self._flat.as_strided(shape, strides, self._flat.storage_offset() + first.a)

    def _up(self, block: FactorBlock) -> Tensor:
        """Return the B factors of a module, (runs, d_out, rank)."""
        shape, strides = (len(self._flat), block.d_out, block.rank), (self._layout.size, block.rank, 1)
        return self._flat.as_strided(shape, strides, self._flat.storage_offset() + block.b)


def is_aligned(lora: Lora) -> bool:
    """Whether grouped products can read the strides of a flat adapter."""
    size = 4 if lora.flat is None else lora.flat.itemsize
    return all(number * size % _ALIGNED == 0 for own in lora.updates.values() for number in own.a.shape)


def changing(segments: tuple[Segment, ...], adapters: Mapping[int, Lora]) -> list[Lora | None]:
    """Return the adapter of each segment, None without one or for one that has only a head."""
    found = (adapters.get(own.slot) for own in segments)
    return [lora if lora is not None and lora.updates else None for lora in found]
