"""How the adapters of a batch enter its products: run by run, or all at once where there are kernels for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from onetrunk.adapters.grouped import Stack
from onetrunk.adapters.lora import Frozen, Lora, Patch, patched_linear
from onetrunk.core.dropout import Masks
from onetrunk.core.packing import Segment
from onetrunk.core.transfer import moved


class Updates(Protocol):
    """The updates of a batch."""

    def product(self, x: Tensor, frozen: Frozen, layer: int, modules: tuple[str, ...], width: int) -> Tensor:
        """Return `frozen(x)` with the updates of `modules` of `layer` added; x: (tokens, d_in).

        width: columns of the output that each of the modules has.
        """


class Patches:
    """Updates as small products, one for each run of rows of one adapter; they can be trained through."""

    def __init__(
        self, segments: tuple[Segment, ...], adapters: Mapping[int, Lora], masks: Masks | None
    ) -> None:
        self._segments, self._masks = segments, masks
        self._runs = [(own, adapters[own.slot]) for own in segments if own.slot in adapters]

    def product(self, x: Tensor, frozen: Frozen, layer: int, modules: tuple[str, ...], width: int) -> Tensor:
        """As `Updates` has it."""
        found = ((own, lora.on(layer, modules, width)) for own, lora in self._runs)
        patches = [Patch(own.start, own.stop, update) for own, update in found if update is not None]
        mask = self._masks.of(x, self._segments) if self._masks is not None and patches else None
        return patched_linear(x, frozen, patches, mask)


def updates_of(
    segments: tuple[Segment, ...], adapters: Mapping[int, Lora], like: Tensor, masks: Masks | None
) -> Updates:
    """Return the updates of a batch whose hidden states are as `like`.

    On a GPU, in bf16 and without gradients, adapters of one shape are one grouped product; others, patches.
    """
    if like.is_cuda and like.dtype == torch.bfloat16 and masks is None and not torch.is_grad_enabled():
        stops = moved(torch.tensor([own.stop for own in segments], dtype=torch.int32), like.device)
        if stack := Stack.of([adapters.get(own.slot) for own in segments], stops):
            return stack
    return Patches(segments, adapters, masks)
