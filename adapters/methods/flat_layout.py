"""An adapter's updates in one tensor, laid out for serving: nothing is copied when a batch uses them.

For each layer the A factors that read the same input lie end to end, so that a product with all of them is one
product with a view; the B factors follow, with the scale folded in. Adapters of one shape (targets and ranks) have
one layout: their tensors can be stacked, and the stack viewed as the stack of every factor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import torch
from torch import Tensor

from onetrunk.adapters.methods.lora import Lora, LowRank, Target
from onetrunk.adapters.methods.target_modules import MODULES

ALIGNMENT = 64
"""Every block begins at a multiple of so many numbers: at a cache line's start, whatever their type."""

Shape = tuple[Target, int, int, int]
"""A target, its rank, d_in and d_out."""

_SAME_INPUT = ("query", "key", "value")


@dataclass(frozen=True, slots=True)
class FactorBlock:
    """Where the factors of `target` begin: a (rank, d_in), b (d_out, rank), as indices of the first number."""

    target: Target
    rank: int
    d_in: int
    d_out: int
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class FlatLayout:
    """The places of all factors of adapters of one shape. size: numbers in the flat tensor."""

    blocks: tuple[FactorBlock, ...]
    size: int

    def views(self, flat: Tensor) -> Lora:
        """Return the adapter whose factors are views of `flat`, (size,)."""
        return Lora({block.target: _view(block, flat) for block in self.blocks}, flat)


def flattened(lora: Lora, device: torch.device, dtype: torch.dtype) -> Lora:
    """Return `lora` in one tensor on `device` in `dtype`, each B scaled; what is so already is returned as it is.

    B is scaled in float32, before it is rounded to `dtype`.
    """
    if lora.flat is not None and lora.flat.device == device and lora.flat.dtype == dtype:
        return lora
    layout = layout_of(lora)
    if lora.flat is not None:
        return layout.views(lora.flat.to(device, dtype))
    with torch.inference_mode(False), torch.no_grad():
        flat = torch.zeros(layout.size, dtype=dtype, device=_device_of(lora))
        for target, own in layout.views(flat).updates.items():
            given = lora.updates[target]
            own.a.copy_(given.a)
            own.b.copy_(given.b.float() * given.scale)
        return layout.views(flat.to(device))


def pinned(lora: Lora) -> Lora:
    """Return a copy in page-locked host memory of an adapter that is laid out; the bus reads it fastest."""
    flat = _flat(lora)
    return layout_of(lora).views(torch.empty_like(flat, device="cpu", pin_memory=True).copy_(flat))


def size_of(lora: Lora) -> int:
    """Return the bytes of an adapter that is laid out."""
    return _flat(lora).nbytes


def layout_of(lora: Lora) -> FlatLayout:
    """Return the layout of adapters of the shape of `lora`."""
    return _layout(tuple((target, *own.a.shape, own.b.shape[0]) for target, own in lora.updates.items()))


@lru_cache(maxsize=256)
def _layout(shapes: tuple[Shape, ...]) -> FlatLayout:
    blocks: list[FactorBlock] = []
    size = 0
    for _, layer in groupby(sorted(shapes, key=_order), key=lambda shape: shape[0][0]):
        own = list(layer)
        firsts, size = _places(_runs(own), size)
        seconds, size = _places(([shape[1] * shape[3]] for shape in own), size)
        blocks += [FactorBlock(*shape, a, b) for shape, a, b in zip(own, firsts, seconds, strict=True)]
    return FlatLayout(tuple(blocks), size)


def _order(shape: Shape) -> tuple[int, int, str]:
    """Return where a module comes: in the order of the forward pass, those of other encoders by name behind it."""
    layer, module = shape[0]
    return layer, MODULES.index(module) if module in MODULES else len(MODULES), module


def _runs(layer: list[Shape]) -> Iterator[list[int]]:
    """Yield the sizes of the A factors of a layer, those of one input together."""
    for _, group in groupby(layer, key=lambda shape: "input" if shape[0][1] in _SAME_INPUT else shape[0][1]):
        yield [rank * d_in for _, rank, d_in, _ in group]


def _places(runs: Iterable[list[int]], start: int) -> tuple[list[int], int]:
    """Return where each block begins, and where the last run ends; a run begins aligned and has no gaps."""
    places: list[int] = []
    for run in runs:
        start = _aligned(start)
        for size in run:
            places.append(start)
            start += size
    return places, _aligned(start)


def _aligned(index: int) -> int:
    return -(-index // ALIGNMENT) * ALIGNMENT


def _view(block: FactorBlock, flat: Tensor) -> LowRank:
    a = flat.as_strided((block.rank, block.d_in), (block.d_in, 1), block.a)
    b = flat.as_strided((block.d_out, block.rank), (block.rank, 1), block.b)
    return LowRank(a, b, 1.0)


def _flat(lora: Lora) -> Tensor:
    if lora.flat is None:
        raise ValueError("the adapter is not laid out; call flattened() first")
    return lora.flat


def _device_of(lora: Lora) -> torch.device:
    return next((own.a.device for own in lora.updates.values()), torch.device("cpu"))
