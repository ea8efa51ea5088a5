"""The loss that most tasks need; torch is imported on use, so that a plugin may name it at its top."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onetrunk.core.tasks.spec import IGNORE

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy over the units whose target is not `IGNORE`, as a scalar.

    logits: (units, labels); targets: (units,) int64; weights: (labels,) a factor for each label, by which the
    mean is weighted too, or None for equal ones. Without any unit to learn from it is 0, with zero gradient.
    """
    from torch.nn import functional as F

    total = F.cross_entropy(logits, targets, weights, ignore_index=IGNORE, reduction="sum")
    return total / total_weight(targets, weights).clamp(min=1e-12)


def total_weight(targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the sum of the weights of the units that have a label, as a scalar.

    targets: (units,) int64, negative where there is none; weights: (labels,) or None for 1 each.
    """
    labelled = targets >= 0
    return labelled.sum().float() if weights is None else (weights[targets.clamp(min=0)] * labelled).sum()
