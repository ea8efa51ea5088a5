"""Partial forward: texts join a batch at the first layer that their adapter changes.

Below that layer the hidden states of a text do not depend on the adapter. They are computed once for several
adapters, and training keeps them from epoch to epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from onetrunk.adapters.methods.lora import Lora
from onetrunk.core.backbones.device import to_device
from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.dropout import Masks
from onetrunk.core.trunk.packing import Packed, joined, pack


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """Texts that join at layer `first`.

    slots: the slot (number of an adapter) of each text.
    hidden: (states, width), the inputs of layer `first`.
    source: (tokens,) int64 on the CPU, the row of `hidden` for each token of the texts' windows, in order; None if
        `hidden` has one row for each of these tokens.
    """

    first: int
    texts: Sequence[Encoded]
    slots: Sequence[int]
    hidden: Tensor
    source: Tensor | None = None


def run_entries(
    trunk: Trunk,
    entries: Sequence[LayerEntry],
    adapters: Mapping[int, Lora],
    lora_masks: Masks | None = None,
    most: int | None = None,
) -> tuple[Tensor, Packed]:
    """Run entries through the upper layers of the trunk. Each joins the others in the batch at its layer `first`.

    entries: in ascending order of `first`.
    adapters: by slot; none changes a layer below the `first` of its entries.
    most: largest number of tokens of a part, as for `pack`.
    Returns the hidden states (rows, width) of the texts, entry after entry, and the batch of all texts.
    """
    texts: list[Encoded] = []
    slots: list[int] = []
    hidden = entries[0].hidden[:0]
    below = torch.empty(
        0, dtype=torch.int64, device=trunk.device
    )  # for each token of `texts`, its row of `hidden`
    tops = [*(entry.first for entry in entries[1:]), trunk.depth]
    for entry, top in zip(entries, tops, strict=True):
        texts += entry.texts
        slots += entry.slots
        packed = pack(texts, slots, most, trunk.device)
        own = torch.arange(len(entry.hidden)) if entry.source is None else entry.source
        source = torch.cat((below, to_device(own, trunk.device) + len(hidden)))[packed.source]
        states, layers = torch.cat((hidden, entry.hidden)), range(entry.first, top)
        hidden = trunk.run(states, packed, adapters, layers, lora_masks, source)
        below = packed.source.argsort()
    return joined(hidden, packed), packed


def lower_states(
    trunk: Trunk, texts: Sequence[Encoded], states: Tensor | None, layers: range, most: int | None = None
) -> Tensor:
    """Run `layers` of the trunk over `texts`, without adapters.

    states: (tokens, width), the input of the first of `layers` for the tokens of the texts' windows, in order; None
        to compute the embeddings.
    most: largest number of tokens of a part, as for `pack`.
    Returns (tokens, width) in the order of `states`.
    """
    packed = pack(texts, [0] * len(texts), most, trunk.device)
    hidden = trunk.embed(packed) if states is None else states[packed.source]
    return trunk.run(hidden, packed, {}, layers)[packed.source.argsort()]
