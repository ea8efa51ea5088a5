"""The hidden states below the first layer that trains: computed without a graph, kept from epoch to epoch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.packing import PART_TOKENS
from onetrunk.core.trunk.partial_forward import lower_states

KEPT_BYTES = 2**30
"""Memory for the kept hidden states of all runs that train together; what does not fit is computed every epoch."""


class StateBudget:
    """The memory that runs which train together may use for kept hidden states. Belongs to one thread.

    left: bytes that are still free.
    """

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self.left = limit

    def take(self, size: int) -> bool:
        """Reserve `size` bytes; return False, and reserve nothing, if fewer are free."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def give_back(self, size: int) -> None:
        """Free `size` reserved bytes."""
        self.left += size


class LowerStates:
    """What enters layer `first` of `trunk` for each of `texts`, the bare trunk's own states.

    Nothing that trains acts below `first`, nor does dropout, so that a text has the same states in each epoch.
    The embeddings (`first` 0) are as quick to look up as to keep, and are not kept.

    budget: limits the bytes of kept states; other runs may share it.
    """

    def __init__(self, trunk: Trunk, texts: Sequence[Encoded], first: int, budget: StateBudget) -> None:
        self.first = first
        self._trunk, self._texts = trunk, texts
        self._budget = budget
        self._kept: dict[int, Tensor] = {}

    @torch.no_grad()
    def of(self, batch: Sequence[int]) -> Tensor:
        """Return the states of the texts of these indices, (tokens, width), end to end in this order."""
        missing = [i for i in batch if i not in self._kept]
        found: dict[int, Tensor] = {}
        if missing:
            texts = [self._texts[i] for i in missing]
            layers = range(self.first)
            states = lower_states(self._trunk, texts, None, layers, PART_TOKENS)
            found = dict(zip(missing, states.split([text.tokens for text in texts]), strict=True))
            if self.first:
                self._keep(found)
            if len(missing) == len(batch):
                return states
        return torch.cat([found[i] if i in found else self._kept[i] for i in batch])

    def release(self) -> None:
        """Forget the kept states, and give their memory back to the budget."""
        self._budget.give_back(sum(rows.nbytes for rows in self._kept.values()))
        self._kept = {}

    def _keep(self, found: dict[int, Tensor]) -> None:
        for index, rows in found.items():
            if self._budget.take(rows.nbytes):
                self._kept[index] = rows.clone()  # a view would hold on to the whole batch
