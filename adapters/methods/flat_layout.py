"""The flat layout: the LoRA weights of an adapter in one tensor, of which all factors are views.

In each layer the A factors with the same input are contiguous, so that one product applies all of them. The B
factors follow, multiplied by the scale. Adapters with the same targets and ranks have the same layout: a stack of
their tensors has views that are the stacks of their factors.
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
"""Each block begins at a multiple of this many numbers: at a cache line, in any dtype."""

Shape = tuple[Target, int, int, int]
"""A target, its rank, d_in and d_out."""

_SAME_INPUT = ("query", "key", "value")


@dataclass(frozen=True, slots=True)
class FactorBlock:
    """Indices of the first numbers of the factors of `target`: a, (rank, d_in), and b, (d_out, rank)."""

    target: Target
    rank: int
    d_in: int
    d_out: int
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class FlatLayout:
    """The indices of all factors of adapters of one shape. size: number of numbers of the flat tensor."""

    blocks: tuple[FactorBlock, ...]
    size: int

    def views(self, flat: Tensor) -> Lora:
        """Return the adapter whose factors are views of `flat`, (size,)."""
        return Lora({block.target: _view(block, flat) for block in self.blocks}, flat)


def flattened(lora: Lora, device: torch.device, dtype: torch.dtype) -> Lora:
    """Return `lora` in the flat layout on `device` in `dtype`, or `lora` itself if it has all that already.

    Each B is multiplied by the scale, in float32, before it is rounded to `dtype`.
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
    """Return a copy of a flat adapter in page-locked host memory, from which copies to a GPU are fastest."""
    flat = _flat(lora)
    return layout_of(lora).views(torch.empty_like(flat, device="cpu", pin_memory=True).copy_(flat))


def size_of(lora: Lora) -> int:
    """Return the size of a flat adapter in bytes."""
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
    """Return the sort key of a module: the order of the forward pass, then other modules by name."""
    layer, module = shape[0]
    return layer, MODULES.index(module) if module in MODULES else len(MODULES), module


def _runs(layer: list[Shape]) -> Iterator[list[int]]:
    """Yield the sizes of the A factors of a layer, grouped by input."""
    for _, group in groupby(layer, key=lambda shape: "input" if shape[0][1] in _SAME_INPUT else shape[0][1]):
        yield [rank * d_in for _, rank, d_in, _ in group]


def _places(runs: Iterable[list[int]], start: int) -> tuple[list[int], int]:
    """Return the start of each block and the end of the last run. Runs begin aligned and have no gaps."""
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
        raise ValueError("the adapter is not in the flat layout; call flattened() first")
    return lora.flat


def _device_of(lora: Lora) -> torch.device:
    return next((own.a.device for own in lora.updates.values()), torch.device("cpu"))
