"""The flat layout: one tensor that holds all A and B of an adapter, which are views of it.

In each layer, all A with the same input are contiguous, so that one product applies them. All B follow, multiplied
by the scale. Adapters that change the same modules with the same ranks have the same layout, so views of their
stacked flat tensors are stacks of their A and B.
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
"""Blocks begin at multiples of this many numbers, so each begins at a cache line in every dtype."""

Shape = tuple[Target, int, int, int]
"""Layer and module of an update, its rank, and the module's numbers of inputs (d_in) and outputs (d_out)."""

_SAME_INPUT = ("query", "key", "value")


@dataclass(frozen=True, slots=True)
class FactorBlock:
    """Where A, (rank, d_in), and B, (d_out, rank), of `target` begin. a, b: indices into the flat tensor."""

    target: Target
    rank: int
    d_in: int
    d_out: int
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class FlatLayout:
    """The layout of adapters with the same targets, ranks and widths. size: length of the flat tensor."""

    blocks: tuple[FactorBlock, ...]
    size: int

    def views(self, flat: Tensor) -> Lora:
        """Return the adapter whose A and B are views of `flat`, (size,)."""
        updates = {}
        for block in self.blocks:
            a = flat.as_strided((block.rank, block.d_in), (block.d_in, 1), block.a)
            b = flat.as_strided((block.d_out, block.rank), (block.rank, 1), block.b)
            updates[block.target] = LowRank(a, b, 1.0)
        return Lora(updates, flat)


def flattened(lora: Lora, device: torch.device, dtype: torch.dtype) -> Lora:
    """Return `lora` in the flat layout on `device` in `dtype`; `lora` itself if nothing would change.

    Each B is multiplied by the scale, in float32, before it is rounded to `dtype`.
    """
    if lora.flat is not None and lora.flat.device == device and lora.flat.dtype == dtype:
        return lora
    layout = layout_of(lora)
    if lora.flat is not None:
        return layout.views(lora.flat.to(device, dtype))
    with torch.inference_mode(False), torch.no_grad():
        source = next((own.a.device for own in lora.updates.values()), device)
        flat = torch.zeros(layout.size, dtype=dtype, device=source)
        for target, own in layout.views(flat).updates.items():
            given = lora.updates[target]
            own.a.copy_(given.a)
            own.b.copy_(given.b.float() * given.scale)
        return layout.views(flat.to(device))


def pinned(lora: Lora) -> Lora:
    """Return a copy of a flat adapter in page-locked host memory, which is copied fastest to a GPU."""
    flat = _flat(lora)
    return layout_of(lora).views(torch.empty_like(flat, device="cpu", pin_memory=True).copy_(flat))


def size_of(lora: Lora) -> int:
    """Return the size of a flat adapter in bytes."""
    return _flat(lora).nbytes


def layout_of(lora: Lora) -> FlatLayout:
    """Return the flat layout of `lora`."""
    return _layout(tuple((target, *own.a.shape, own.b.shape[0]) for target, own in lora.updates.items()))


@lru_cache(maxsize=256)
def _layout(shapes: tuple[Shape, ...]) -> FlatLayout:
    blocks: list[FactorBlock] = []
    size = 0
    for _, layer in groupby(sorted(shapes, key=_order), key=lambda shape: shape[0][0]):
        own = list(layer)
        firsts, size = _starts(_runs(own), size)
        seconds, size = _starts(([shape[1] * shape[3]] for shape in own), size)
        blocks += [FactorBlock(*shape, a, b) for shape, a, b in zip(own, firsts, seconds, strict=True)]
    return FlatLayout(tuple(blocks), size)


def _order(shape: Shape) -> tuple[int, int, str]:
    """Return a sort key: `MODULES` in the order of the forward pass, then other modules by name."""
    layer, module = shape[0]
    return layer, MODULES.index(module) if module in MODULES else len(MODULES), module


def _runs(layer: list[Shape]) -> Iterator[list[int]]:
    """Yield the sizes of the A factors of a layer, grouped by input."""
    for _, group in groupby(layer, key=lambda shape: "input" if shape[0][1] in _SAME_INPUT else shape[0][1]):
        yield [rank * d_in for _, rank, d_in, _ in group]


def _starts(runs: Iterable[list[int]], start: int) -> tuple[list[int], int]:
    """Return the start of each block, and the end of the last run. Each run begins aligned, without gaps within.

    runs: sizes of the blocks of each run.
    start: aligned index of the first run.
    """
    starts: list[int] = []
    for run in runs:
        for size in run:
            starts.append(start)
            start += size
        start = -(-start // ALIGNMENT) * ALIGNMENT
    return starts, start


def _flat(lora: Lora) -> Tensor:
    if lora.flat is None:
        raise ValueError("the adapter is not in the flat layout; call flattened() first")
    return lora.flat
