"""The updates of many adapters as grouped products: on a GPU, one kernel for all of a batch, not one each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onetrunk.adapters.methods.flat_layout import FactorBlock, FlatLayout, layout_of
from onetrunk.adapters.methods.lora import Frozen, Lora

_ALIGNED = 16
"""Bytes that every stride of a grouped product must be a multiple of."""

grouped_mm: Any = F.grouped_mm


class Stack:
    """Adapters of one layout, one for each run of rows of a packed batch, stacked as grouped products need them.

    The products are those of S-LoRA's and Punica's kernels (Chen et al. 2023, arXiv:2310.18547, section 4): shrink,
    then expand, with the adapter chosen by row.
    """

    def __init__(self, flat: Tensor, stops: Tensor, layout: FlatLayout) -> None:
        """flat: (runs, numbers of an adapter); stops: (runs,) int32, the row behind each run."""
        self._flat, self._stops, self._layout = flat, stops, layout

    @classmethod
    def of(cls, loras: Sequence[Lora | None], stops: Tensor) -> Stack | None:
        """Stack the adapter of each run, None for a run without one; None where they are not alike."""
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
        """Return `frozen(x)` with the updates of `modules`, `width` columns each, added; x: (tokens, d_in)."""
        y = frozen(x)
        columns = {(layer, module): i * width for i, module in enumerate(modules)}
        blocks = [block for block in self._layout.blocks if block.target in columns]
        if not blocks:
            return y
        z = grouped_mm(x, self._down(blocks).transpose(1, 2), offs=self._stops)
        for block, part in zip(blocks, z.split_with_sizes([b.rank for b in blocks], 1), strict=True):
            update = grouped_mm(part, self._up(block).transpose(1, 2), offs=self._stops)
            y.narrow(1, columns[block.target], block.d_out).add_(update)
        return y

    def _down(self, blocks: Sequence[FactorBlock]) -> Tensor:
        """Return the A of modules that read the same input, (runs, sum of ranks, d_in); they lie end to end."""
        first = blocks[0]
        ranks = sum(block.rank for block in blocks)
        shape, strides = (len(self._flat), ranks, first.d_in), (self._layout.size, first.d_in, 1)
        return self._flat.as_strided(shape, strides, self._flat.storage_offset() + first.a)

    def _up(self, block: FactorBlock) -> Tensor:
        """Return the B of a module, (runs, d_out, rank)."""
        shape, strides = (len(self._flat), block.d_out, block.rank), (self._layout.size, block.rank, 1)
        return self._flat.as_strided(shape, strides, self._flat.storage_offset() + block.b)


def is_aligned(lora: Lora) -> bool:
    """Whether the strides of an adapter that is laid out are those that grouped products can read."""
    size = 4 if lora.flat is None else lora.flat.itemsize
    return all(number * size % _ALIGNED == 0 for own in lora.updates.values() for number in own.a.shape)
