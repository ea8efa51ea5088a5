"""The choice of the epoch whose weights are kept, and the end of a run before its last epoch.

A metric on few dev rows is mostly chance: of 4 rows, each changes the accuracy by 25 points. The loss on dev also
sees how probable the right answers are. On a small dev set, it chooses the epoch, and the run does not stop early.
If a small dev set was held out of few training rows, the rows are worth more in training than the choice of an
epoch: the adapter is trained on all rows for all epochs, beside a run without the dev rows that gives the metrics.
"""

from __future__ import annotations

import math
from typing import Literal

from onetrunk.core.training.settings import PATIENCE

FEW_DEV = 50
"""Smallest number of labelled rows (or entities) of dev for which the metric chooses the epoch."""

FEW_TO_STOP = 500
"""Smallest such number for which the metric ends a run early: the standard error of an accuracy is about 2 %."""

FEW_HELD_OUT = 100
"""Smallest number of rows held out as dev for which the adapter is trained without them."""

_NOISE = 1e-4
"""Relative change of a metric or a loss that is no improvement."""

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
        self.patience = (PATIENCE if support >= FEW_TO_STOP else 0) if patience is None else patience
        self.best = 0
        self._epochs = self._risen = 0
        self._best = (-math.inf, -math.inf)
        self._mark = 0.0

    @property
    def exhausted(self) -> bool:
        """Whether the run should stop now: nothing has improved by more than noise for `patience` epochs."""
        return bool(self.patience) and self._epochs - self._risen >= self.patience

    def offer(self, metric: float, loss: float) -> bool:
        """Return whether the next epoch is the best so far.

        metric: on dev. While it is 0, the latest epoch is the best, so that `patience` is not used up.
        loss: on dev; infinity if it is not finite.
        """
        self._epochs += 1
        value = {"metric": (metric, -loss), "loss": (-loss, 0.0), "last": (0.0, 0.0)}[self.by]
        nothing_yet = self.by == "metric" and metric == self._best[0] == 0
        rises = self._epochs == 1 or value[0] > self._mark + _NOISE * abs(self._mark)
        if rises or nothing_yet or self.by == "last":
            self._mark, self._risen = value[0], self._epochs
        if better := value >= self._best or nothing_yet:
            self._best, self.best = value, self._epochs
        return better
