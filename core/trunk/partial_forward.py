"""Texts that enter the trunk at different layers, run together from where they enter.

Below the first layer that its adapter changes, a text's hidden states are those of the bare trunk: the same for
every adapter and in every epoch. They are computed once, or kept, and the text enters where its adapter begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from onetrunk.adapters.methods.lora import Lora
from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.trunk.device_copy import to_device
from onetrunk.core.trunk.dropout import Masks
from onetrunk.core.trunk.packed import Trunk
from onetrunk.core.trunk.packing import Packed, joined, pack


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """Texts that enter the trunk at layer `first`.

    slots: the adapter of each text.
    hidden: (rows, width), what enters layer `first`.
    source: (tokens,) int64 on the CPU, the row of `hidden` that each row of the texts' windows is, end to end in
        this order; None where `hidden` are these rows.
    """

    first: int
    texts: Sequence[Encoded]
    slots: Sequence[int]
    hidden: Tensor
    source: Tensor | None = None


def run_entries(
    trunk: Trunk,
    first_position: int,
    entries: Sequence[LayerEntry],
    adapters: Mapping[int, Lora],
    lora_masks: Masks | None = None,
    most: int | None = None,
) -> tuple[Tensor, Packed]:
    """Run each entry from its layer to the top, together with all that entered below it.

    entries: by `first`, ascending; adapters: nothing that an entry's adapter changes lies below its `first`.
    most: tokens that run at once, as `pack` has it.
    Returns the hidden states (rows, width) of the texts, entry after entry, and the batch that they were.
    """
    texts: list[Encoded] = []
    slots: list[int] = []
    hidden = entries[0].hidden[:0]
    below = torch.empty(0, dtype=torch.int64, device=trunk.device)  # the rows of `hidden`, in the order given
    tops = [*(entry.first for entry in entries[1:]), trunk.depth]
    for entry, top in zip(entries, tops, strict=True):
        texts += entry.texts
        slots += entry.slots
        packed = pack(texts, slots, first_position, most).to(trunk.device)
        own = torch.arange(len(entry.hidden)) if entry.source is None else entry.source
        source = torch.cat((below, to_device(own, trunk.device) + len(hidden)))[packed.source]
        states, layers = torch.cat((hidden, entry.hidden)), range(entry.first, top)
        hidden = trunk.run(states, packed, adapters, layers, lora_masks, source=source)
        below = packed.source.argsort()
    return joined(hidden, packed), packed


def in_given_order(hidden: Tensor, packed: Packed) -> Tensor:
    """Return packed rows (tokens, width) as `Packed.source` counts them: windows end to end, in the order given."""
    return hidden[packed.source.argsort()]


def lower_states(
    trunk: Trunk,
    first_position: int,
    texts: Sequence[Encoded],
    states: Tensor | None,
    layers: range,
    most: int | None = None,
) -> Tensor:
    """Run the bare trunk's `layers` over `texts`; states: what enters them, None for the embeddings.

    Both are (tokens, width), the texts' windows end to end in the order given; so is what is returned.
    """
    packed = pack(texts, [0] * len(texts), first_position, most).to(trunk.device)
    hidden = trunk.embed(packed) if states is None else states[packed.source]
    return in_given_order(trunk.run(hidden, packed, {}, layers), packed)
