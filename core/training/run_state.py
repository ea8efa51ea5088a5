"""One training run: its batches, its epochs, the best of them, and what it tells."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.errors import TaskSpecError, TrainingDiverged
from onetrunk.core.tasks import JSONObject, Rows
from onetrunk.core.tasks.hookspecs import EpochEvent, StepEvent
from onetrunk.core.training.encoded_dataset import EncodedDataset
from onetrunk.core.training.evaluation import DevResult, evaluate_dev
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.trainable import Trainable, balanced_weights
from onetrunk.core.trunk.batching import training_batches

What = TypeVar("What", bound=Trainable)


@dataclass(frozen=True, slots=True)
class FinishedRun(Generic[What]):
    """What a run gives: the trainable at its best epoch, one history row an epoch, and the time it took.

    dev: the calibrated decoder and the metrics on dev of the best epoch.
    """

    trainable: What
    history: tuple[JSONObject, ...]
    best_epoch: int
    dev: DevResult
    seconds: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class TrainingCallback:
    """Who hears of a run, on the training thread."""

    step: Callable[[StepEvent], None] | None = None
    epoch: Callable[[EpochEvent], None] | None = None


def planned(settings: TrainSettings, train: EncodedDataset) -> TrainSettings:
    """Return `settings` with the tokens of a batch and the epochs that were left to be picked for `train`."""
    batch_tokens = settings.planned_tokens(sum(train.tokens))
    order = torch.Generator().manual_seed(settings.seed)
    steps = len(training_batches(train.tokens, batch_tokens, order))
    return replace(settings, batch_tokens=batch_tokens, epochs=settings.planned_epochs(steps))


class TrainingRun(Generic[What]):
    """A run between its steps. Whoever drives it takes a batch, computes its loss, and tells it of the gradients.

    trainable: what trains; its settings are `planned`.
    batch: indices of the train's examples, the next to learn from; batch_tokens: how many tokens it may have.
    error: what ended the run; None for one that goes on or is done.
    """

    def __init__(
        self,
        name: str,
        trainable: What,
        train: EncodedDataset,
        dev: EncodedDataset,
        callback: TrainingCallback | None = None,
    ) -> None:
        self.name, self.trainable, self.train, self.dev = name, trainable, train, dev
        self.settings = trainable.settings
        self.batch_tokens = self.settings.planned_tokens(sum(train.tokens))
        self.error: Exception | None = None
        self._callback = callback or TrainingCallback()
        self._class_weights = None
        if self.settings.class_weights == "balanced":
            self._class_weights = balanced_weights(train.targets, len(trainable.labels))
        self._order = torch.Generator().manual_seed(self.settings.seed)
        self._batches = self._drawn_batches()
        self._epochs = self.settings.planned_epochs(len(self._batches))
        self._planned_steps = self._count_steps()
        self.trainable.schedule(self._planned_steps)
        self._steps_done = self._steps_of_epoch = 0
        self._history: list[JSONObject] = []
        self._losses = 0.0
        self._best, self._best_epoch = -math.inf, 0
        self._best_dev = DevResult({}, {})
        self._begun = self._epoch_begun = time.monotonic()
        self._training_seconds = 0.0

    @property
    def epoch(self) -> int:
        """The epoch under way, from 1."""
        return len(self._history) + 1

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do: all epochs, patience at its end, or an error."""
        done, patience = len(self._history), self.settings.patience
        impatient = bool(patience) and done - self._best_epoch >= patience
        return self.error is not None or done == self._epochs or impatient

    @property
    def batch(self) -> list[int]:
        """Indices of the examples of the next step."""
        return self._batches[self._steps_of_epoch]

    @contextmanager
    def ending_alone(self) -> Iterator[None]:
        """Let what is raised within end this run, and no other that shares its steps."""
        try:
            yield
        except Exception as error:
            self.error = error

    def loss(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Return the loss of the batch (a scalar). Raises TrainingDiverged where it is not finite."""
        targets = self.train.target_tensor(self.batch).to(hidden.device)
        weights = None if self._class_weights is None else self._class_weights.to(hidden.device)
        loss = self.trainable.loss(hidden, rows, targets, weights)
        if not math.isfinite(float(loss.detach())):
            raise self._diverged(self._steps_done + 1)
        return loss

    def advance(self, loss: float) -> None:
        """Take the step whose gradients are there, tell of it, and end the epoch with its last one."""
        lr, tokens = self.trainable.lr, sum(self.train.encoded[i].tokens for i in self.batch)
        self.trainable.update()
        self._losses += loss
        self._steps_done += 1
        if self._callback.step is not None:
            done, planned = self._steps_done, self._planned_steps
            self._callback.step(
                StepEvent(self.name, self.epoch, self._epochs, done, planned, loss, tokens, lr)
            )
        self._steps_of_epoch += 1
        if self._steps_of_epoch == len(self._batches):
            self._end_epoch()

    def result(self) -> FinishedRun[What]:
        """Return the run at its best epoch. Raises the error that ended it."""
        if self.error is not None:
            raise self.error
        self.trainable.restore()
        rate = sum(self.train.tokens) * len(self._history) / self._training_seconds
        seconds = time.monotonic() - self._begun
        return FinishedRun(
            self.trainable, tuple(self._history), self._best_epoch, self._best_dev, seconds, rate
        )

    def _count_steps(self) -> int:
        """Return the batches of all epochs. Those after the first are drawn to be counted, and drawn again later.

        The learning rate follows from their number, and the batches of all epochs may not fit into memory.
        """
        drawn = self._order.get_state()
        later = sum(len(self._drawn_batches()) for _ in range(1, self._epochs))
        self._order.set_state(drawn)
        return len(self._batches) + later

    def _drawn_batches(self) -> list[list[int]]:
        return training_batches(self.train.tokens, self.batch_tokens, self._order)

    def _end_epoch(self) -> None:
        self._training_seconds += time.monotonic() - self._epoch_begun
        if not self.trainable.is_finite():  # the last step may have spoilt what no loss has seen yet
            raise self._diverged(self._steps_done)
        found = self._evaluate_dev()
        value = self._primary(found.metrics)
        # Of epochs that find nothing yet the last is kept: it is no worse, and patience begins with the first find.
        if better := value > self._best or value == self._best == 0:
            self._best, self._best_epoch, self._best_dev = value, self.epoch, found
            self.trainable.keep()
        self._report(found.metrics, better)
        self._steps_of_epoch, self._losses = 0, 0.0
        if not self.finished:
            self._batches = self._drawn_batches()
        self._epoch_begun = time.monotonic()

    def _diverged(self, step: int) -> TrainingDiverged:
        own = self.settings
        hint = f"try a lower --lr than {own.weight_lr:g}, or a lower --head-lr than {own.top_lr:g}"
        return TrainingDiverged(self.epoch, step, hint)

    def _primary(self, metrics: JSONObject) -> float:
        """Return the metric that picks the best epoch, 0 for None. Raises TaskSpecError for no finite number."""
        spec = self.trainable.spec
        value = metrics.get(spec.primary)
        if value is None and spec.primary in metrics:  # nothing to find in dev, and nothing found
            return 0.0
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise TaskSpecError(
                spec.name,
                [
                    f"evaluate gives {value!r} for {spec.primary!r}, expected a finite number, an int or a float"
                ],
            )
        return float(value)

    def _evaluate_dev(self) -> DevResult:
        """Calibrate and measure on dev. Raises TrainingDiverged for logits that are finite no more."""
        logits = self.trainable.logits(self.dev)
        if not all(np.isfinite(rows).all() for rows in logits):  # weights may be finite and yet too large
            raise self._diverged(self._steps_done)
        return evaluate_dev(self.trainable, self.dev, logits)

    def _report(self, metrics: JSONObject, best: bool) -> None:
        seconds = time.monotonic() - self._epoch_begun
        epoch, loss = self.epoch, self._losses / self._steps_of_epoch
        figures = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
        row = {"epoch": epoch, "step": self._steps_done, "loss": loss, "dev": figures, "best": best}
        self._history.append({**row, "seconds": round(seconds, 3)})
        if self._callback.epoch is not None:
            self._callback.epoch(EpochEvent(self.name, epoch, self._epochs, loss, metrics, seconds, best))
