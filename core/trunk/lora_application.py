"""How the adapters of a batch enter its products: run by run, or all at once where there are kernels for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from onetrunk.adapters.methods.grouped_products import Stack
from onetrunk.adapters.methods.lora import Frozen, Lora, Patch, patched_linear
from onetrunk.core.trunk.device_copy import to_device
from onetrunk.core.trunk.dropout import Masks
from onetrunk.core.trunk.packing import Segment


@dataclass(frozen=True, slots=True)
class SharedStates:
    """The states of packed rows of which many are the same, as those of one text for several adapters.

    states: (states, width), each once; source: (tokens,) int64, which of them each packed row is.
    """

    states: Tensor
    source: Tensor

    def rows(self) -> Tensor:
        """Return the packed rows, (tokens, width)."""
        return self.states.index_select(0, self.source)

    def product(self, frozen: Frozen) -> Frozen:
        """Return `frozen` for these rows, and no others: computed once for each state."""
        return _SharedProduct(frozen, self)


@dataclass(frozen=True, slots=True)
class _SharedProduct:
    """A frozen product of shared rows; what trains gets its gradient by the rows, as from any other."""

    frozen: Frozen
    shared: SharedStates

    def __call__(self, x: Tensor) -> Tensor:  # noqa: ARG002
        """Return the product of the rows, which `x` are."""
        return self.frozen(self.shared.states).index_select(0, self.shared.source)

    def back(self, grad: Tensor) -> Tensor:
        """Map the gradient of the output, (tokens, d_out), to that of the rows."""
        return self.frozen.back(grad)


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


def changing(segments: tuple[Segment, ...], adapters: Mapping[int, Lora]) -> list[Lora | None]:
    """Return the adapter of each segment, None where it has none, or one that changes nothing (a head alone)."""
    found = (adapters.get(own.slot) for own in segments)
    return [lora if lora is not None and lora.updates else None for lora in found]


def updates_of(
    segments: tuple[Segment, ...], adapters: Mapping[int, Lora], like: Tensor, masks: Masks | None
) -> Updates:
    """Return the updates of a batch whose hidden states are as `like`.

    On a GPU with kernels for them, in bf16 and without gradients, adapters of one shape are one grouped product;
    others, patches.
    """
    if masks is None and not torch.is_grad_enabled() and has_grouped_products(like.device, like.dtype):
        stops = to_device(torch.tensor([own.stop for own in segments], dtype=torch.int32), like.device)
        if stack := Stack.of(changing(segments, adapters), stops):
            return stack
    return Patches(segments, adapters, masks)


def has_grouped_products(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch has kernels for grouped products there: elsewhere it loops, and waits for each group."""
    return (
        device.type == "cuda"
        and dtype == torch.bfloat16
        and torch.cuda.get_device_capability(device)[0] in (9, 10)
    )
