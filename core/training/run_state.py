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

from onetrunk.core.data.notes import Note
from onetrunk.core.errors import TaskSpecError, TrainingDiverged
from onetrunk.core.tasks import JSONObject, Rows
from onetrunk.core.tasks.hookspecs import EpochEvent, StepEvent
from onetrunk.core.training.encoded_dataset import EncodedDataset
from onetrunk.core.training.epoch_choice import FEW_DEV, EpochChoice, SelectedBy
from onetrunk.core.training.evaluation import DevResult
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.trainable import Trainable
from onetrunk.core.trunk.batching import training_batches

TrainableT = TypeVar("TrainableT", bound=Trainable)


@dataclass(frozen=True, slots=True)
class FinishedRun(Generic[TrainableT]):
    """The result of a run.

    trainable: the trained weights, as they were after the best epoch.
    history: one record per epoch: losses, metrics and duration.
    best_epoch: number of the epoch whose weights were kept, from 1.
    selected_by: how this epoch was chosen; see `EpochChoice`.
    patience: number of epochs without a better one after which the run would have stopped; 0 for no early stopping.
    dev: the calibrated decoder settings and the metrics on dev of the best epoch.
    seconds: duration of the whole run.
    tokens_per_second: training throughput; the time of the evaluations on dev does not count.
    notes: on the training.
    all_rows: whether `trainable` was trained on the rows of dev too, in a second run; the other fields are those of
        the first run.
    """

    trainable: TrainableT
    history: tuple[JSONObject, ...]
    best_epoch: int
    selected_by: SelectedBy
    patience: int
    dev: DevResult
    seconds: float
    tokens_per_second: float
    notes: tuple[Note, ...] = ()
    all_rows: bool = False


@dataclass(frozen=True, slots=True)
class TrainingCallback:
    """Callbacks of a run, called on the training thread.

    step: called after each optimizer step.
    epoch: called after each epoch and its evaluation on dev.
    note: called with the name of the adapter and a note on its training.
    """

    step: Callable[[StepEvent], None] = lambda _event: None
    epoch: Callable[[EpochEvent], None] = lambda _event: None
    note: Callable[[str, Note], None] = lambda _name, _note: None


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
    train, dev: the encoded splits. dev is None for a run on all rows: it is not evaluated, its last epoch is kept.
    batch_tokens: the largest number of tokens of a batch.
    choice: compares the epochs; None for one that fits the size of dev, with a note if dev is small.
    error: the exception that ended the run; None if there was none.
    notes: the notes on the training, in the order in which the callback got them.
    """

    def __init__(
        self,
        name: str,
        trainable: TrainableT,
        train: EncodedDataset,
        dev: EncodedDataset | None,
        callback: TrainingCallback = NO_CALLBACK,
        choice: EpochChoice | None = None,
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
        support = 0 if dev is None else trainable.evaluator.support(dev)
        self._choice = choice or EpochChoice(support, self.settings.patience)
        self._best_dev = DevResult({}, {})
        self.notes: list[Note] = []
        if choice is None and dev is not None and self._choice.by != "metric":
            self.note(_few_dev_note(self._choice, support, len(dev.examples)))
        self._begun = self._epoch_begun = time.monotonic()
        self._training_seconds = 0.0

    @property
    def epoch(self) -> int:
        """The number of the current epoch, from 1."""
        return len(self._history) + 1

    @property
    def finished(self) -> bool:
        """Whether the run has ended: all epochs are done, early stopping applies, or an error occurred."""
        done = len(self._history) == self._epochs
        return self.error is not None or done or self._choice.exhausted

    @property
    def batch(self) -> list[int]:
        """Indices of the examples of the next batch."""
        return self._batches[self._steps_of_epoch]

    def note(self, note: Note) -> None:
        """Record a note on the training and pass it to the callback."""
        self.notes.append(note)
        self._callback.note(self.name, note)

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
        if self._best_dev.note:
            self.note(Note("decoder", self._best_dev.note, "dev"))
        return FinishedRun(
            trainable=self.trainable,
            history=tuple(self._history),
            best_epoch=self._choice.best,
            selected_by=self._choice.by,
            patience=self._choice.patience,
            dev=self._best_dev,
            seconds=seconds,
            tokens_per_second=rate,
            notes=tuple(self.notes),
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
        found = DevResult({}, {}) if self.dev is None else self._evaluate(self.dev)
        if better := self._choice.offer(
            0.0 if self.dev is None else self._primary(found.metrics), found.loss
        ):
            self._best_dev = found
            self.trainable.keep()
        self._report(found, better)
        self._steps_of_epoch, self._losses = 0, 0.0
        if not self.finished:
            self._batches = self._drawn_batches()
        self._epoch_begun = time.monotonic()

    def _evaluate(self, dev: EncodedDataset) -> DevResult:
        logits = self.trainable.logits(dev)
        if not all(np.isfinite(rows).all() for rows in logits):  # products of large finite weights overflow
            raise self._diverged(self._steps_done)
        return self.trainable.evaluator.on_dev(dev, logits)

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

    def _report(self, found: DevResult, best: bool) -> None:
        seconds = time.monotonic() - self._epoch_begun
        epoch, loss = self.epoch, self._losses / self._steps_of_epoch
        numbers = {key: value for key, value in found.metrics.items() if isinstance(value, int | float)}
        dev_loss = found.loss if math.isfinite(found.loss) else None
        row = {"epoch": epoch, "step": self._steps_done, "loss": loss, "dev": numbers, "dev_loss": dev_loss}
        self._history.append({**row, "best": best, "seconds": round(seconds, 3)})
        event = EpochEvent(self.name, epoch, self._epochs, loss, found.metrics, seconds, best, dev_loss)
        self._callback.epoch(event)


def _few_dev_note(choice: EpochChoice, support: int, rows: int) -> Note:
    """Return the note on a run whose epoch is not chosen by the metric. rows: the number of rows of dev."""
    chosen = {"loss": "the epoch with the lowest loss on dev is kept", "last": "the last epoch is kept"}
    stop = "" if choice.patience else ", and training does not stop early"
    message = (
        f"dev has {rows} rows, in which the metric counts {support} labels or entities; below {FEW_DEV} it depends "
        f"largely on chance: {chosen[choice.by]}{stop}; give a larger dev file with --dev"
    )
    return Note("few-dev-rows", message, "dev", support)
