"""Cache of hidden states: the inputs of the first trainable layer, which do not change between epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.packing import PART_TOKENS
from onetrunk.core.trunk.partial_forward import lower_states

KEPT_BYTES = 2**30
"""Default limit in bytes for the hidden states of all runs that train together.

Hidden states that exceed the limit are not kept, but computed again in each epoch.
"""


@dataclass(slots=True)
class CacheBudget:
    """The memory limit that the caches of several runs share. Not thread-safe.

    left: the number of bytes that the caches can still use.
    """

    left: int = KEPT_BYTES


class HiddenStateCache:
    """The input of layer `first` of the frozen trunk for each text of a run.

    Layers below `first` have no trainable weights and no dropout, so a text has the same hidden states in each
    epoch. If `first` is 0, nothing is kept, because looking up the embeddings is as fast.

    texts: the texts of the run.
    budget: limits the bytes that are kept. Several caches may share it.
    """

    def __init__(self, trunk: Trunk, texts: Sequence[Encoded], first: int, budget: CacheBudget) -> None:
        self.first = first
        self._trunk, self._texts = trunk, texts
        self._budget = budget
        self._kept: dict[int, Tensor] = {}

    @torch.no_grad()
    def states(self, batch: Sequence[int]) -> Tensor:
        """Return the concatenated hidden states of the texts at the indices `batch`, (tokens, hidden size)."""
        missing = [i for i in batch if i not in self._kept]
        found: dict[int, Tensor] = {}
        if missing:
            texts = [self._texts[i] for i in missing]
            layers = range(self.first)
            computed = lower_states(self._trunk, texts, None, layers, PART_TOKENS)
            found = dict(zip(missing, computed.split([text.tokens for text in texts]), strict=True))
            for index, rows in found.items():
                if self.first and rows.nbytes <= self._budget.left:
                    self._budget.left -= rows.nbytes
                    self._kept[index] = rows.clone()  # a view would keep the whole batch in memory
            if len(missing) == len(batch):
                return computed
        return torch.cat([found[i] if i in found else self._kept[i] for i in batch])

    def release(self) -> None:
        """Drop the kept hidden states and return their bytes to the budget."""
        self._budget.left += sum(rows.nbytes for rows in self._kept.values())
        self._kept = {}
