"""Cache of frozen hidden states: the inputs of the first trainable layer, kept across epochs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.packing import PART_TOKENS
from onetrunk.core.trunk.partial_forward import lower_states

KEPT_BYTES = 2**30
"""Bytes for the hidden states of all runs that train together; states beyond that are computed in each epoch."""


class CacheBudget:
    """The memory limit that the caches of several runs share. Not thread-safe.

    left: the free bytes.
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


class HiddenStateCache:
    """The input of layer `first` of the frozen trunk for each text of a run.

    Layers below `first` have no trainable weights and no dropout, so a text has the same states in each epoch. With
    `first` 0 nothing is kept: looking up the embeddings is as fast.

    texts: the texts of the run.
    budget: the limit on the bytes kept; several runs may share it.
    """

    def __init__(self, trunk: Trunk, texts: Sequence[Encoded], first: int, budget: CacheBudget) -> None:
        self.first = first
        self._trunk, self._texts = trunk, texts
        self._budget = budget
        self._kept: dict[int, Tensor] = {}

    @torch.no_grad()
    def states(self, batch: Sequence[int]) -> Tensor:
        """Return the concatenated states of the texts at the indices `batch`, (tokens, H)."""
        missing = [i for i in batch if i not in self._kept]
        found: dict[int, Tensor] = {}
        if missing:
            texts = [self._texts[i] for i in missing]
            layers = range(self.first)
            computed = lower_states(self._trunk, texts, None, layers, PART_TOKENS)
            found = dict(zip(missing, computed.split([text.tokens for text in texts]), strict=True))
            if self.first:
                self._keep(found)
            if len(missing) == len(batch):
                return computed
        return torch.cat([found[i] if i in found else self._kept[i] for i in batch])

    def release(self) -> None:
        """Drop the kept states and free their bytes in the budget."""
        self._budget.give_back(sum(rows.nbytes for rows in self._kept.values()))
        self._kept = {}

    def _keep(self, found: dict[int, Tensor]) -> None:
        for index, rows in found.items():
            if self._budget.take(rows.nbytes):
                self._kept[index] = rows.clone()  # a view would keep the whole batch in memory
