"""The hidden states below the first layer that trains: computed without a graph, kept from epoch to epoch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.trunk.packed import Trunk
from onetrunk.core.trunk.packing import PART_TOKENS
from onetrunk.core.trunk.partial_forward import lower_states

KEPT_BYTES = 2**30
"""Memory for kept states, at most, of each of a run's data sets; what is beyond is computed in every epoch."""


class LowerStates:
    """What enters layer `first` of `trunk` for each of `texts`, the bare trunk's own states.

    Nothing that trains acts below `first`, nor does dropout, so that a text has the same states in each epoch.
    The embeddings (`first` 0) are as quick to look up as to keep, and are not kept.

    room: bytes of states to keep, at most.
    """

    def __init__(
        self, trunk: Trunk, first_position: int, texts: Sequence[Encoded], first: int, room: int = KEPT_BYTES
    ) -> None:
        self.first = first
        self._trunk, self._first_position, self._texts = trunk, first_position, texts
        row = trunk.width * trunk.dtype.itemsize
        self._room = room // row if first else 0
        self._kept: dict[int, Tensor] = {}

    @torch.no_grad()
    def of(self, batch: Sequence[int]) -> Tensor:
        """Return the states of the texts of these indices, (tokens, width), end to end in this order."""
        missing = [i for i in batch if i not in self._kept]
        found = {}
        if missing:
            texts = [self._texts[i] for i in missing]
            layers = range(self.first)
            states = lower_states(self._trunk, self._first_position, texts, None, layers, PART_TOKENS)
            found = dict(zip(missing, states.split([text.tokens for text in texts]), strict=True))
        if len(missing) == len(batch) and not self._room:
            return states
        self._keep(found)
        return torch.cat([found[i] if i in found else self._kept[i] for i in batch])

    def _keep(self, found: dict[int, Tensor]) -> None:
        for index, rows in found.items():
            if len(rows) <= self._room:
                self._room -= len(rows)
                self._kept[index] = rows.clone()  # a view would hold on to the whole batch
