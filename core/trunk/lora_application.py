"""Adds the LoRA updates of a batch to its products: adapter by adapter, or as grouped products on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from onetrunk.adapters.methods.lora import Frozen, Lora, Patch, patched_linear
from onetrunk.core.backbones.kernels import has_grouped_products
from onetrunk.core.trunk.device_copy import to_device
from onetrunk.core.trunk.dropout import Masks
from onetrunk.core.trunk.grouped_products import Stack, changing
from onetrunk.core.trunk.packing import Segment

SharedStates = tuple[Tensor, Tensor]
"""Hidden states (states, width), and (tokens,) int64, the state of each packed row: several rows may share one."""


@dataclass(frozen=True, slots=True)
class SharedProduct:
    """A frozen product of packed rows that share inputs; it computes each input once.

    frozen: the product.
    states, source: the inputs, as in `SharedStates`.
    """

    frozen: Frozen
    states: Tensor
    source: Tensor

    def __call__(self, x: Tensor) -> Tensor:  # noqa: ARG002
        """Return the product (tokens, d_out) of the packed rows x, (tokens, d_in)."""
        return self.frozen(self.states).index_select(0, self.source)

    def back(self, grad: Tensor) -> Tensor:
        """Map the gradient of the output, (tokens, d_out), to that of the packed rows, (tokens, d_in)."""
        return self.frozen.back(grad)


class Updates(Protocol):
    """The LoRA updates of a batch."""

    def product(self, x: Tensor, frozen: Frozen, layer: int, modules: tuple[str, ...], width: int) -> Tensor:
        """Return `frozen(x)` plus the updates of `modules` of `layer`.

        x: (tokens, d_in).
        width: output columns of each module.
        Returns (tokens, modules * width); (tokens, d_out) for one module.
        """


class Patches:
    """LoRA updates as small products, one for each segment. Gradients flow through them."""

    def __init__(
        self, segments: tuple[Segment, ...], adapters: Mapping[int, Lora], masks: Masks | None
    ) -> None:
        self._segments, self._masks = segments, masks
        self._runs = [(own, adapters[own.slot]) for own in segments if own.slot in adapters]

    def product(self, x: Tensor, frozen: Frozen, layer: int, modules: tuple[str, ...], width: int) -> Tensor:
        """Return `frozen(x)` plus the updates of `modules`; see `Updates.product` for the shapes."""
        found = ((own, lora.on(layer, modules, width)) for own, lora in self._runs)
        patches = [Patch(own.start, own.stop, update) for own, update in found if update is not None]
        mask = self._masks.of(x, self._segments) if self._masks is not None and patches else None
        return patched_linear(x, frozen, patches, mask)


def updates_of(
    segments: tuple[Segment, ...], adapters: Mapping[int, Lora], like: Tensor, masks: Masks | None
) -> Updates:
    """Return the updates of a batch.

    segments: the ranges of rows of each slot.
    adapters: by slot.
    like: hidden states (tokens, width) with the device and dtype of the batch.
    masks: dropout of the inputs, None without dropout.
    Adapters of one shape are one `Stack` if there are kernels for it (GPU, bf16, no gradients), else `Patches`.
    """
    if masks is None and not torch.is_grad_enabled() and has_grouped_products(like.device, like.dtype):
        stops = to_device(torch.tensor([own.stop for own in segments], dtype=torch.int32), like.device)
        if stack := Stack.of(changing(segments, adapters), stops):
            return stack
    return Patches(segments, adapters, masks)
