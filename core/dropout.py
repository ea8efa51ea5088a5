"""Dropout as explicit masks, so that several products can share one and the backward pass need not redraw it."""

from __future__ import annotations

import torch
from torch import Tensor

_LOWEST = -(2**63)


class Dropout:
    """Masks of one training step, drawn from torch's global generator on the tensor's device.

    probability: share of the values that is dropped, to the next 1/256 but never none or all; what stays is
        divided by the keep probability (Srivastava et al. 2014).
    """

    def __init__(self, probability: float) -> None:
        self._bytes = min(255, max(1, round((1.0 - probability) * 256)))  # 256 is no byte to compare with
        self._shared: dict[torch.Size, Tensor] = {}

    def shared(self, x: Tensor) -> Tensor:
        """Return one mask for all inputs of this shape: the same units are dropped in every layer.

        Drawing a mask for each projection costs more than the low-rank products themselves; sharing it is the
        variational form of Gal and Ghahramani 2016 (arXiv:1512.05287).
        """
        if x.shape not in self._shared:
            self._shared[x.shape] = self.fresh(x)
        return self._shared[x.shape]

    def fresh(self, x: Tensor) -> Tensor:
        """Return a mask of its own for `x`.

        One draw of 64 random bits decides eight values, an eighth of the cost of a Bernoulli draw each.
        """
        draws = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device).random_(_LOWEST, None)
        kept = draws.view(torch.uint8)[: x.numel()].view(x.shape) < self._bytes
        return kept.to(x.dtype).mul_(256 / self._bytes)
