"""Dropout as explicit masks, so that several products can share one and the backward pass need not redraw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from onetrunk.core.trunk.packing import Segment

_LOWEST = -(2**63)


class Dropout:
    """Masks of dropout.

    probability: share of the values that is dropped, to the next 1/256 but never none or all; what stays is
        divided by the keep probability (Srivastava et al. 2014).
    generator: what masks are drawn from, on the tensors' device; None for torch's global one.
    """

    def __init__(self, probability: float, generator: torch.Generator | None = None) -> None:
        self._generator = generator
        self._bytes = min(255, max(1, round((1.0 - probability) * 256)))  # 256 is no byte to compare with

    def draw(self, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return a mask of `shape`.

        One draw of 64 random bits decides eight values, an eighth of the cost of a Bernoulli draw each.
        """
        numel = shape.numel()
        draws = torch.empty((numel + 7) // 8, dtype=torch.int64, device=device)
        draws.random_(_LOWEST, None, generator=self._generator)
        kept = draws.view(torch.uint8)[:numel].view(shape) < self._bytes
        return kept.to(dtype).mul_(256 / self._bytes)


class Masks:
    """The masks of one training step for the inputs of the updates, drawn before it by each slot's own run.

    The same units of a token are dropped in every layer and product: drawing a mask for each projection costs more
    than the low-rank products themselves. That is the variational form of Gal and Ghahramani 2016
    (arXiv:1512.05287).

    by_slot: for each slot with dropout, a mask (rows of the slot, width) for each width of inputs.
    """

    def __init__(self, by_slot: Mapping[int, Mapping[int, Tensor]]) -> None:
        self._by_slot = by_slot
        self._packed: dict[tuple[Sequence[Segment], int], Tensor] = {}

    def split(self, parts: Sequence[Sequence[Segment]]) -> list[Masks]:
        """Return the masks of each part of a batch, whose rows of a slot follow those of the part before."""
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
        """Return the mask for packed inputs `x`, of the same shape; rows of other slots are kept whole."""
        key = segments, x.shape[1]
        if key not in self._packed:
            parts = [self._part(segment, x) for segment in segments]
            self._packed[key] = parts[0] if len(parts) == 1 else torch.cat(parts)
        return self._packed[key]

    def _part(self, segment: Segment, x: Tensor) -> Tensor:
        mask = self._by_slot.get(segment.slot, {}).get(
            x.shape[1]
        )  # none of a width that its updates do not read
        return x.new_ones(segment.stop - segment.start, x.shape[1]) if mask is None else mask
