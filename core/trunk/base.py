"""`Trunk`: the interface of a frozen backbone that runs over packed tokens, with adapters as arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from onetrunk.adapters.methods.lora import Lora
from onetrunk.core.backbones.backbone import fingerprint
from onetrunk.core.trunk.dropout import Masks
from onetrunk.core.trunk.packing import Packed, Part, joined, joined_parts


class Trunk(Protocol):
    """A frozen backbone in memory, without a head. Immutable once `build.build_trunk` returns it, and thread-safe.

    Packed order is the order of tokens in `Packed.parts`.

    dtype: dtype of hidden states, and of adapters in training.
    adapter_dtype: dtype of adapters in inference.
    precision: dtype of the products with pretrained weights: int8, or `dtype`.
    depth: number of layers that `run` can run one by one.
    width: number of values of a hidden state.
    error: relative error of the hidden states against float32, measured on fixed texts; 0 in float32.
    noise: size of the relative noise on the weights of the norms that changes hidden states as much as `error`.
    """

    device: torch.device
    dtype: torch.dtype
    adapter_dtype: torch.dtype
    precision: torch.dtype
    depth: int
    width: int
    error: float = 0.0
    noise: float = 0.0

    def first_changed(self, lora: Lora) -> int:
        """Return the first layer that `lora` changes; `depth` if it changes none."""

    def forward(self, packed: Packed, adapters: Mapping[int, Lora]) -> Tensor:
        """Run the encoder over a batch, each text with the adapter of its slot.

        adapters: by slot, on the trunk's device, in `adapter_dtype`; with gradients in `dtype`. Texts of any other
            slot run without an adapter.
        Returns the hidden states (rows, width) of the texts, in the order they were given to `pack`.
        """
        if len(packed.parts) == 1 or torch.is_grad_enabled():
            return joined(self.run(self.embed(packed), packed, adapters), packed)
        # One part after another, so that a long text takes the memory of one part and of its result.
        return joined_parts((self.run(self.embed(own), own, adapters) for own in packed.each_part()), packed)

    def embed(self, packed: Packed) -> Tensor:
        """Return the input of the first layer, (tokens, width), in packed order."""

    def run(
        self,
        hidden: Tensor,
        packed: Packed,
        adapters: Mapping[int, Lora],
        layers: range | None = None,
        lora_masks: Masks | None = None,
        source: Tensor | None = None,
    ) -> Tensor:
        """Run some layers over hidden states.

        hidden: (tokens, width), in packed order; with `source`, (states, width) in any order.
        layers: all by default.
        lora_masks: dropout of the inputs of the LoRA updates, None without dropout.
        source: (tokens,) int64, the row of `hidden` of each packed row. The first product with pretrained weights
            is computed once for each row of `hidden`.
        Returns (tokens, width), in packed order.
        """

    def with_noise(self, noise: float, seed: int) -> Trunk:
        """Return a trunk with relative noise on the weights of its norms. It shares all other weights."""

    def with_graphs(self) -> Trunk:
        """Return a trunk that runs small batches as CUDA graphs, or this trunk if it cannot."""
        return self

    def tensors(self) -> dict[str, Tensor]:
        """Return all weights by name. They are not copies: do not write to them."""

    def checksum(self) -> str:
        """Return the sha256 of all weights."""
        return fingerprint(self.tensors())


def run_parts(
    run_part: Callable[[Tensor, Part, Masks | None], Tensor],
    hidden: Tensor,
    parts: Sequence[Part],
    lora_masks: Masks | None,
) -> Tensor:
    """Run the parts of a batch one after another; hidden: (tokens, width). Returns (tokens, width).

    With several parts, the backward pass computes each part again: it takes the memory of one part.
    """
    if len(parts) == 1:
        return run_part(hidden, parts[0], lora_masks)
    split = lora_masks and lora_masks.split([part.segments for part in parts])
    masks: Sequence[Masks | None] = split or [None] * len(parts)
    states = []
    for own, part, mask in zip(hidden.split([part.tokens for part in parts]), parts, masks, strict=True):
        if torch.is_grad_enabled():  # `checkpoint` keeps the random state of the device of `own`
            states.append(checkpoint(run_part, own, part, mask, use_reentrant=False))
        else:
            states.append(run_part(own, part, mask))
    return torch.cat(states)
