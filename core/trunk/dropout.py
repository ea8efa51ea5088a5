"""Dropout as explicit masks, which several products and their backward pass share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from onetrunk.core.trunk.packing import Segment

_LOWEST = -(2**63)


class Dropout:
    """Draws dropout masks (Srivastava et al. 2014).

    probability: share of the values to drop, rounded to 1/256, at least 1/256 and at most 255/256.
    generator: a random generator on the tensors' device, None for torch's global one.
    """

    def __init__(self, probability: float, generator: torch.Generator | None = None) -> None:
        self._generator = generator
        self._bytes = min(
            255, max(1, round((1.0 - probability) * 256))
        )  # a value is kept if a random byte is below

    def draw(self, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return a mask of `shape`: 0 for dropped values, 1 / (keep probability) for the others.

        One draw of 64 random bits decides eight values, which takes an eighth of the time of Bernoulli draws.
        """
        numel = shape.numel()
        draws = torch.empty((numel + 7) // 8, dtype=torch.int64, device=device)
        draws.random_(_LOWEST, None, generator=self._generator)
        kept = draws.view(torch.uint8)[:numel].view(shape) < self._bytes
        return kept.to(dtype).mul_(256 / self._bytes)


class Masks:
    """The dropout masks of one training step, for the inputs of the LoRA updates.

    A token has the same mask in all layers and products (Gal and Ghahramani 2016, arXiv:1512.05287). Drawing a mask
    for each product would take longer than the products of the updates.

    by_slot: for each slot (number of an adapter) with dropout, a mask (rows of the slot, d_in) for each d_in.
    """

    def __init__(self, by_slot: Mapping[int, Mapping[int, Tensor]]) -> None:
        self._by_slot = by_slot
        self._packed: dict[tuple[Sequence[Segment], int], Tensor] = {}

    def split(self, parts: Sequence[Sequence[Segment]]) -> list[Masks]:
        """Return the masks of each part of a batch; parts: the segments (rows of one slot) of each part."""
        taken: dict[int, int] = {}
        split = []
        for segments in parts:
            own: dict[int, Mapping[int, Tensor]] = {}
            for segment in segments:
                first = taken.get(segment.slot, 0)
                last = taken[segment.slot] = first + segment.stop - segment.start
                if masks := self._by_slot.get(segment.slot):
                    own[segment.slot] = {width: mask[first:last] for width, mask in masks.items()}
            split.append(Masks(own))
        return split

    def of(self, x: Tensor, segments: tuple[Segment, ...]) -> Tensor:
        """Return the mask of packed inputs x; both are (tokens, width). It is 1 for slots without dropout."""
        key = segments, x.shape[1]
        if key not in self._packed:
            parts = []
            for segment in segments:
                mask = self._by_slot.get(segment.slot, {}).get(
                    x.shape[1]
                )  # None for a width that no update reads
                parts.append(x.new_ones(segment.stop - segment.start, x.shape[1]) if mask is None else mask)
            self._packed[key] = parts[0] if len(parts) == 1 else torch.cat(parts)
        return self._packed[key]
