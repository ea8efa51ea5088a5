"""The choice of the epoch whose weights are kept, and the end of a run before its last epoch.

A metric on few dev rows is mostly chance: of 4 rows, each changes the accuracy by 25 points. The loss on dev also
sees how probable the right answers are. On a small dev set, it chooses the epoch, and the run does not stop early.
"""

from __future__ import annotations

import math
from typing import Literal

from onetrunk.core.training.settings import PATIENCE

FEW_DEV = 50
"""Smallest number of labelled rows (or entities) of dev for which the metric chooses the epoch."""

SelectedBy = Literal["metric", "loss", "last"]


class EpochChoice:
    """Compares the epochs of a run, in order.

    support: what the metric of dev counts, such as its labelled rows or its entities; see `TaskSpec.support`.
    patience: the setting `TrainSettings.patience`.

    by: what chooses the best epoch; of two equal epochs, it is the later one.
        `metric`: the highest metric on dev; of equal ones, that with the lower loss.
        `loss`: the lowest loss on dev.
        `last`: the last epoch, because dev has nothing that the metric counts.
    patience: number of epochs without a better one before the run stops; 0 if it does not stop early.
    best: the number of the best epoch so far, from 1; 0 before the first one.
    """

    def __init__(self, support: int, patience: int | None) -> None:
        self.by: SelectedBy = "metric" if support >= FEW_DEV else "loss" if support else "last"
        self.patience = (PATIENCE if self.by == "metric" else 0) if patience is None else patience
        self.best = 0
        self._epochs = 0
        self._best = (-math.inf, -math.inf)

    @property
    def exhausted(self) -> bool:
        """Whether the run should stop now."""
        return bool(self.patience) and self._epochs - self.best >= self.patience

    def offer(self, metric: float, loss: float) -> bool:
        """Return whether the next epoch is the best so far.

        metric: on dev. While it is 0, the latest epoch is the best, so that `patience` is not used up.
        loss: on dev; infinity if it is not finite.
        """
        self._epochs += 1
        value = {"metric": (metric, -loss), "loss": (-loss, 0.0), "last": (0.0, 0.0)}[self.by]
        nothing_yet = self.by == "metric" and metric == self._best[0] == 0
        if better := value >= self._best or nothing_yet:
            self._best, self.best = value, self._epochs
        return better
