"""The loss of most tasks. Importing this module does not import torch; its functions do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onetrunk.core.tasks.records import IGNORE

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy over the units whose target is not `IGNORE`, a scalar tensor.

    If all targets are `IGNORE`, the loss is 0 with zero gradients.

    logits: (units, labels).
    targets: (units,) int64, label indices or `IGNORE`.
    weights: (labels,), the weight in the mean of the units with each label; None for equal weights.
    """
    from torch.nn import functional as F

    total = F.cross_entropy(logits, targets, weights, ignore_index=IGNORE, reduction="sum")
    return total / total_weight(targets, weights).clamp(min=1e-12)


def total_weight(targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the sum of the weights of the units with a label, a scalar tensor.

    targets: (units,) int64, label indices; negative for units without a label.
    weights: (labels,), the weight of the units with each label; None for a weight of 1.
    """
    labelled = targets >= 0
    return labelled.sum().float() if weights is None else (weights[targets.clamp(min=0)] * labelled).sum()
