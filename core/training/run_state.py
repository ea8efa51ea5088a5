"""The state of one training run: its batches, epochs, best epoch, history and callbacks."""

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
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.trainable import DevResult, Trainable
from onetrunk.core.trunk.batching import training_batches

TrainableT = TypeVar("TrainableT", bound=Trainable)


@dataclass(frozen=True, slots=True)
class FinishedRun(Generic[TrainableT]):
    """The result of a run.

    trainable: the trained weights, as they were after the best epoch.
    history: one record per epoch: losses, metrics and duration.
    best_epoch: number of the epoch with the best value of the metric `TaskSpec.primary` on dev, from 1.
    dev: the calibrated decoder settings and the metrics on dev of the best epoch.
    seconds: duration of the whole run.
    tokens_per_second: training throughput; the time of the evaluations on dev does not count.
    """

    trainable: TrainableT
    history: tuple[JSONObject, ...]
    best_epoch: int
    dev: DevResult
    seconds: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class TrainingCallback:
    """Callbacks of a run, called on the training thread.

    step: called after each optimizer step.
    epoch: called after each epoch and its evaluation on dev.
    """

    step: Callable[[StepEvent], None] = lambda _event: None
    epoch: Callable[[EpochEvent], None] = lambda _event: None


NO_CALLBACK = TrainingCallback()


def planned(settings: TrainSettings, train: EncodedDataset) -> TrainSettings:
    """Return `settings` with `batch_tokens` and `epochs` filled in for the size of `train`."""
    batch_tokens = settings.planned_tokens(sum(train.tokens))
    order = torch.Generator().manual_seed(settings.seed)
    steps = len(training_batches(train.tokens, batch_tokens, order))
    return replace(settings, batch_tokens=batch_tokens, epochs=settings.planned_epochs(steps))


class TrainingRun(Generic[TrainableT]):
    """The state of a training run, which the training loop moves forward step by step.

    In each step, the loop takes `batch`, computes its hidden states, calls `loss`, runs the backward pass and calls
    `advance`. It stops when the run is `finished`.

    name: the name of the adapter.
    trainable: the weights to train. Its settings come from `planned`.
    train, dev: the encoded splits.
    batch_tokens: the largest number of tokens of a batch.
    error: the exception that ended the run; None if there was none.
    """

    def __init__(
        self,
        name: str,
        trainable: TrainableT,
        train: EncodedDataset,
        dev: EncodedDataset,
        callback: TrainingCallback = NO_CALLBACK,
    ) -> None:
        self.name, self.trainable, self.train, self.dev = name, trainable, train, dev
        self.settings = trainable.settings
        self.batch_tokens = self.settings.planned_tokens(sum(train.tokens))
        self.error: Exception | None = None
        self._callback = callback
        self._class_weights = trainable.class_weights(train)
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
        """The number of the current epoch, from 1."""
        return len(self._history) + 1

    @property
    def finished(self) -> bool:
        """Whether the run has ended: all epochs are done, early stopping applies, or an error occurred."""
        done, patience = len(self._history), self.settings.patience
        exhausted = bool(patience) and done - self._best_epoch >= patience
        return self.error is not None or done == self._epochs or exhausted

    @property
    def batch(self) -> list[int]:
        """Indices of the examples of the next batch."""
        return self._batches[self._steps_of_epoch]

    @contextmanager
    def recording_error(self) -> Iterator[None]:
        """Keep an exception of the block as the `error` of this run, so that other runs can continue."""
        try:
            yield
        except Exception as error:
            self.error = error

    def loss(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Return the loss of the current batch, a scalar tensor.

        hidden: the hidden states of the batch, (tokens, hidden size).
        rows: the positions of the texts and words of the batch in `hidden`.
        Raises TrainingDiverged if the loss is not finite; TaskSpecError if the code of the task fails.
        """
        targets = self.train.target_tensor(self.batch).to(hidden.device)
        weights = None if self._class_weights is None else self._class_weights.to(hidden.device)
        loss = self.trainable.loss(hidden, rows, targets, weights)
        if not math.isfinite(float(loss.detach())):
            raise self._diverged(self._steps_done + 1)
        return loss

    def advance(self, loss: float) -> None:
        """Take the optimizer step and call the callback; after the last step of an epoch, evaluate on dev.

        loss: the loss of the batch.
        """
        lr, tokens = self.trainable.lr, sum(self.train.encoded[i].tokens for i in self.batch)
        self.trainable.update()
        self._losses += loss
        self._steps_done += 1
        done, planned = self._steps_done, self._planned_steps
        self._callback.step(StepEvent(self.name, self.epoch, self._epochs, done, planned, loss, tokens, lr))
        self._steps_of_epoch += 1
        if self._steps_of_epoch == len(self._batches):
            self._end_epoch()

    def result(self) -> FinishedRun[TrainableT]:
        """Restore the weights of the best epoch and return the result. Raises the `error` of the run, if any."""
        if self.error is not None:
            raise self.error
        self.trainable.restore()
        rate = sum(self.train.tokens) * len(self._history) / self._training_seconds
        seconds = time.monotonic() - self._begun
        return FinishedRun(
            self.trainable, tuple(self._history), self._best_epoch, self._best_dev, seconds, rate
        )

    def _count_steps(self) -> int:
        """Return the number of batches of all epochs.

        The batches of later epochs are drawn only to count them, and again when their epoch begins: the batches of
        all epochs may not fit into memory.
        """
        drawn = self._order.get_state()
        later = sum(len(self._drawn_batches()) for _ in range(1, self._epochs))
        self._order.set_state(drawn)
        return len(self._batches) + later

    def _drawn_batches(self) -> list[list[int]]:
        return training_batches(self.train.tokens, self.batch_tokens, self._order)

    def _end_epoch(self) -> None:
        self._training_seconds += time.monotonic() - self._epoch_begun
        if not self.trainable.is_finite():  # the next loss would show it, but the last step has no next loss
            raise self._diverged(self._steps_done)
        logits = self.trainable.logits(self.dev)
        if not all(np.isfinite(rows).all() for rows in logits):  # products of large finite weights overflow
            raise self._diverged(self._steps_done)
        found = self.trainable.evaluate_dev(self.dev, logits)
        value = self._primary(found.metrics)
        # While the metric is 0, the latest epoch counts as the best one, so that patience is not used up.
        if better := value > self._best or value == self._best == 0:
            self._best, self._best_epoch, self._best_dev = value, self.epoch, found
            self.trainable.keep()
        self._report(found.metrics, better)
        self._steps_of_epoch, self._losses = 0, 0.0
        if not self.finished:
            self._batches = self._drawn_batches()
        self._epoch_begun = time.monotonic()

    def _diverged(self, step: int) -> TrainingDiverged:
        rates = self.settings
        hint = f"try a lower --lr than {rates.weight_lr:g}, or a lower --head-lr than {rates.top_lr:g}"
        return TrainingDiverged(self.epoch, step, hint)

    def _primary(self, metrics: JSONObject) -> float:
        """Return the metric `TaskSpec.primary`; 0 if it is None. Raises TaskSpecError for an invalid value."""
        spec = self.trainable.spec
        value = metrics.get(spec.primary)
        if value is None and spec.primary in metrics:  # undefined, such as F1 if there is no entity
            return 0.0
        if not isinstance(value, int | float) or not math.isfinite(value):
            fault = f"evaluate returns {value!r} for {spec.primary!r}; expected a finite int or float"
            raise TaskSpecError(spec.name, [fault])
        return float(value)

    def _report(self, metrics: JSONObject, best: bool) -> None:
        seconds = time.monotonic() - self._epoch_begun
        epoch, loss = self.epoch, self._losses / self._steps_of_epoch
        numbers = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
        row = {"epoch": epoch, "step": self._steps_done, "loss": loss, "dev": numbers, "best": best}
        self._history.append({**row, "seconds": round(seconds, 3)})
        self._callback.epoch(EpochEvent(self.name, epoch, self._epochs, loss, metrics, seconds, best))
