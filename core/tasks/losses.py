"""The loss of most tasks. torch is imported on use, so a plugin can import this module at its top."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onetrunk.core.tasks.spec import IGNORE

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy over the units whose target is not `IGNORE`, a scalar tensor.

    If all targets are `IGNORE`, the loss is 0 with zero gradients.

    logits: (units, labels).
    targets: (units,) int64, label indices or `IGNORE`.
    weights: (labels,), the weight of the units of each label in the mean; None for equal weights.
    """
    from torch.nn import functional as F

    total = F.cross_entropy(logits, targets, weights, ignore_index=IGNORE, reduction="sum")
    return total / total_weight(targets, weights).clamp(min=1e-12)


def total_weight(targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the sum of the weights of the units with a label, a scalar tensor.

    targets: (units,) int64, label indices; negative for units without a label.
    weights: (labels,), the weight of the units of each label; None for 1 each.
    """
    labelled = targets >= 0
    return labelled.sum().float() if weights is None else (weights[targets.clamp(min=0)] * labelled).sum()
