"""One training run: its batches, its epochs, the best of them, and what it tells."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import TaskSpecError, TrainingDiverged
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.inference.logits import Job, compute_logits
from onetrunk.core.tasks import JSONObject, Labels, Rows, TaskSpec
from onetrunk.core.tasks.guarded_calls import json_of
from onetrunk.core.tasks.hookspecs import EpochEvent, StepEvent
from onetrunk.core.training.encoded_dataset import Corpus
from onetrunk.core.training.hidden_cache import LowerStates, StateBudget
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.trainable import Learner, balanced_weights
from onetrunk.core.trunk.batching import training_batches
from onetrunk.core.trunk.packed import Trunk


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run gives: the learner at its best epoch, one history row an epoch, and the time it took."""

    learner: Learner
    history: tuple[JSONObject, ...]
    best_epoch: int
    seconds: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears of a run, on the training thread."""

    step: Callable[[StepEvent], None] | None = None
    epoch: Callable[[EpochEvent], None] | None = None


@dataclass(frozen=True, slots=True)
class RunData:
    """What one adapter learns: a task with its labels, and its encoded training and dev examples."""

    spec: TaskSpec
    labels: Labels
    corpus: Corpus
    dev: Corpus


@dataclass(frozen=True, slots=True)
class RunContext:
    """What the runs of one plan share: the backbone, its trunk, and the memory for kept hidden states."""

    backbone: Backbone
    trunk: Trunk
    budget: StateBudget = field(default_factory=StateBudget)


class Run:
    """A run between its steps. Whoever drives it takes a batch, computes its loss, and tells it of the gradients.

    batch: indices of the corpus's examples, the next to learn from; batch_tokens: how many tokens it may have.
    error: what ended the run; None for one that goes on or is done.
    """

    def __init__(
        self,
        name: str,
        data: RunData,
        context: RunContext,
        settings: TrainSettings,
        start: Adapter | None = None,
        listener: Listener | None = None,
    ) -> None:
        corpus, trunk = data.corpus, context.trunk
        self._order = torch.Generator().manual_seed(settings.seed)
        self.corpus, self.batch_tokens = corpus, settings.planned_tokens(sum(corpus.tokens))
        self._batches = self._drawn_batches()
        epochs = settings.planned_epochs(len(self._batches))
        settings = replace(settings, epochs=epochs, batch_tokens=self.batch_tokens)
        self.name, self.dev, self.settings = name, data.dev, settings
        self.first_position = context.backbone.first_position
        self.learner = Learner(data.spec, data.labels, context.backbone, trunk, settings, start)
        first_layer = self.learner.first_layer
        self.lower = LowerStates(trunk, self.first_position, corpus.encoded, first_layer, context.budget)
        self.error: Exception | None = None
        self._listener = listener or Listener()
        self._class_weights = None
        if settings.class_weights == "balanced":
            self._class_weights = balanced_weights(corpus.targets, len(data.labels)).to(trunk.device)
        self._epochs = epochs
        self._planned_steps = self._count_steps()
        self.learner.schedule(self._planned_steps)
        self._steps_done = self._steps_of_epoch = 0
        self._history: list[JSONObject] = []
        self._losses = 0.0
        self._best, self._best_epoch = -math.inf, 0
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
        flat = [target for i in self.batch for target in self.corpus.targets[i]]
        targets = torch.tensor(flat, dtype=torch.int64, device=hidden.device)  # empty ones, too
        loss = self.learner.loss(hidden, rows, targets, self._class_weights)
        if not math.isfinite(float(loss.detach())):
            raise self._diverged(self._steps_done + 1)
        return loss

    def advance(self, loss: float) -> None:
        """Take the step whose gradients are there, tell of it, and end the epoch with its last one."""
        lr, tokens = self.learner.lr, sum(self.corpus.encoded[i].tokens for i in self.batch)
        self.learner.update()
        self._losses += loss
        self._steps_done += 1
        if self._listener.step is not None:
            done, planned = self._steps_done, self._planned_steps
            self._listener.step(
                StepEvent(self.name, self.epoch, self._epochs, done, planned, loss, tokens, lr)
            )
        self._steps_of_epoch += 1
        if self._steps_of_epoch == len(self._batches):
            self._end_epoch()

    def result(self) -> Trained:
        """Return the run at its best epoch, without its kept hidden states. Raises the error that ended it."""
        self.lower.release()
        if self.error is not None:
            raise self.error
        self.learner.restore()
        rate = sum(self.corpus.tokens) * len(self._history) / self._training_seconds
        seconds = time.monotonic() - self._begun
        return Trained(self.learner, tuple(self._history), self._best_epoch, seconds, rate)

    def _count_steps(self) -> int:
        """Return the batches of all epochs. Those after the first are drawn to be counted, and drawn again later.

        The learning rate follows from their number, and the batches of all epochs may not fit into memory.
        """
        drawn = self._order.get_state()
        later = sum(len(self._drawn_batches()) for _ in range(1, self._epochs))
        self._order.set_state(drawn)
        return len(self._batches) + later

    def _drawn_batches(self) -> list[list[int]]:
        return training_batches(self.corpus.tokens, self.batch_tokens, self._order)

    def _end_epoch(self) -> None:
        self._training_seconds += time.monotonic() - self._epoch_begun
        if not self.learner.is_finite():  # the last step may have spoilt what no loss has seen yet
            raise self._diverged(self._steps_done)
        metrics = self._dev_metrics()
        value = self._primary(metrics)
        if better := value > self._best:
            self._best, self._best_epoch = value, self.epoch
            self.learner.keep()
        self._report(metrics, better)
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
        spec = self.learner.spec
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

    def _dev_metrics(self) -> JSONObject:
        """Return the metrics on dev. Raises TrainingDiverged for logits that are finite no more."""
        logits, learner = learner_logits(self.learner, self.dev, self.first_position), self.learner
        if not all(np.isfinite(rows).all() for rows in logits):  # weights may be finite and yet too large
            raise self._diverged(self._steps_done)
        return json_of(learner.spec, "evaluate", self.dev.examples, logits, learner.labels, {})

    def _report(self, metrics: JSONObject, best: bool) -> None:
        seconds = time.monotonic() - self._epoch_begun
        epoch, loss = self.epoch, self._losses / self._steps_of_epoch
        figures = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
        row = {"epoch": epoch, "step": self._steps_done, "loss": loss, "dev": figures, "best": best}
        self._history.append({**row, "seconds": round(seconds, 3)})
        if self._listener.epoch is not None:
            self._listener.epoch(EpochEvent(self.name, epoch, self._epochs, loss, metrics, seconds, best))


def learner_logits(learner: Learner, corpus: Corpus, first_position: int) -> list[np.ndarray]:
    """Return the logits of `corpus` in its order, with the learner's present weights."""
    jobs = [Job(encoded, 0) for encoded in corpus.encoded]
    with torch.no_grad():
        trunk, adapter = learner.running_trunk(), learner.adapter("training")
    return compute_logits(trunk, first_position, [adapter], jobs)
