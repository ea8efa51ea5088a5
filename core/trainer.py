"""The training loop: epochs of packed batches, dev after each, the best epoch kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from onetrunk.core.adapter import Adapter
from onetrunk.core.backbone import Backbone
from onetrunk.core.batching import training_batches
from onetrunk.core.encoding import Encoded
from onetrunk.core.errors import TaskSpecError, TrainingDiverged
from onetrunk.core.hookspecs import EpochEvent, StepEvent
from onetrunk.core.inference import Job, compute_logits, encode_examples
from onetrunk.core.learner import Learner, balanced_weights
from onetrunk.core.packing import pack
from onetrunk.core.settings import TrainSettings
from onetrunk.core.tasks import Example, JSONObject, Labels, TaskSpec
from onetrunk.core.trunk import Trunk


@dataclass(frozen=True, slots=True)
class Corpus:
    """Examples ready for the trunk, with one list of target indices each."""

    examples: tuple[Example, ...]
    encoded: tuple[Encoded, ...]
    targets: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> list[int]:
        """Tokens of each example."""
        return [encoded.tokens for encoded in self.encoded]


def make_corpus(spec: TaskSpec, backbone: Backbone, examples: Sequence[Example], labels: Labels) -> Corpus:
    """Tokenise `examples` and map their targets to indices. Raises what `spec.targets` raises."""
    encoded = encode_examples(backbone.encoder(), spec, examples)
    return Corpus(tuple(examples), tuple(encoded), tuple(tuple(spec.targets(e, labels)) for e in examples))


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


def train(
    spec: TaskSpec,
    name: str,
    corpus: Corpus,
    dev: Corpus,
    labels: Labels,
    backbone: Backbone,
    trunk: Trunk,
    settings: TrainSettings,
    *,
    start: Adapter | None = None,
    listener: Listener | None = None,
) -> Trained:
    """Train on `corpus`, choose the epoch by `spec.primary` on `dev`, and return it.

    Repeatable bit for bit on the CPU at one number of threads: all randomness comes from `settings.seed`, and
    torch's global generator is left as it was.
    Raises TrainingDiverged when a loss or a weight is not finite, TaskSpecError when the primary metric is not.
    """
    with torch.random.fork_rng(devices=[trunk.device] if trunk.device.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        learner = Learner(spec, labels, backbone, trunk, settings, start)
        return _Run(name, corpus, dev, backbone, learner, listener or Listener()).run()


class _Run:
    def __init__(
        self, name: str, corpus: Corpus, dev: Corpus, backbone: Backbone, learner: Learner, listener: Listener
    ) -> None:
        self.name, self.corpus, self.dev, self.learner, self.listener = name, corpus, dev, learner, listener
        self.settings = learner.settings
        self.first_position = backbone.first_position
        self.order = torch.Generator().manual_seed(self.settings.seed)
        self.class_weights = None
        if self.settings.class_weights == "balanced":
            self.class_weights = balanced_weights(corpus.targets, len(learner.labels)).to(
                learner.trunk.device
            )
        self.planned_steps = 0
        self.steps_done = 0
        self.history: list[JSONObject] = []

    def run(self) -> Trained:
        own = self.settings
        epochs = [
            training_batches(self.corpus.tokens, own.batch_tokens, self.order) for _ in range(own.epochs)
        ]
        self.planned_steps = sum(map(len, epochs))
        self.learner.schedule(self.planned_steps)
        begin, training_seconds, best, best_epoch = time.monotonic(), 0.0, -math.inf, 0
        for epoch, batches in enumerate(epochs, 1):
            started = time.monotonic()
            loss = self._train_epoch(epoch, batches)
            training_seconds += time.monotonic() - started
            metrics = self._dev_metrics(epoch)
            value = self._primary(metrics)
            if better := value > best:
                best, best_epoch = value, epoch
                self.learner.keep()
            self._report(epoch, loss, metrics, time.monotonic() - started, better)
            if own.patience and epoch - best_epoch >= own.patience:
                break
        self.learner.restore()
        rate = sum(self.corpus.tokens) * len(self.history) / training_seconds
        return Trained(self.learner, tuple(self.history), best_epoch, time.monotonic() - begin, rate)

    def _train_epoch(self, epoch: int, batches: Sequence[Sequence[int]]) -> float:
        """Train one epoch; return the mean loss of its steps."""
        total = 0.0
        for batch in batches:
            packed = pack([self.corpus.encoded[i] for i in batch], [0] * len(batch), self.first_position)
            packed = packed.to(self.learner.trunk.device)
            flat = [t for i in batch for t in self.corpus.targets[i]]
            targets = torch.tensor(flat, dtype=torch.int64, device=packed.ids.device)  # empty ones, too
            lr = self.learner.lr
            loss = float(self.learner.step(packed, targets, self.class_weights))
            self.steps_done += 1
            if not math.isfinite(loss):
                raise self._diverged(epoch)
            total += loss
            if self.listener.step is not None:
                done, planned = self.steps_done, self.planned_steps
                self.listener.step(StepEvent(self.name, epoch, done, planned, loss, packed.tokens, lr))
        if not self.learner.is_finite():  # the last step may have spoilt what no loss has seen yet
            raise self._diverged(epoch)
        return total / len(batches)

    def _diverged(self, epoch: int) -> TrainingDiverged:
        own = self.settings
        hint = f"try a lower --lr than {own.weight_lr:g}, or a lower --head-lr than {own.top_lr:g}"
        return TrainingDiverged(epoch, self.steps_done, hint)

    def _primary(self, metrics: JSONObject) -> float:
        """Return the metric that picks the best epoch, 0 for None. Raises TaskSpecError for no finite number."""
        spec = self.learner.spec
        value = metrics.get(spec.primary)
        if value is None and spec.primary in metrics:  # nothing to find in dev, and nothing found
            return 0.0
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise TaskSpecError(
                spec.name, [f"evaluate gives {value!r} for {spec.primary!r}, expected a finite number"]
            )
        return float(value)

    def _dev_metrics(self, epoch: int) -> JSONObject:
        """Return the metrics on dev. Raises TrainingDiverged for logits that are finite no more."""
        logits, learner = self.logits(self.dev), self.learner
        if not all(np.isfinite(rows).all() for rows in logits):  # weights may be finite and yet too large
            raise self._diverged(epoch)
        return learner.spec.evaluate(self.dev.examples, logits, learner.labels, {})

    def logits(self, corpus: Corpus) -> list[np.ndarray]:
        """Return the logits of `corpus` in its order, with the present weights."""
        return learner_logits(self.learner, corpus, self.first_position)

    def _report(self, epoch: int, loss: float, metrics: JSONObject, seconds: float, best: bool) -> None:
        figures = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
        row = {"epoch": epoch, "step": self.steps_done, "loss": loss, "dev": figures, "best": best}
        self.history.append({**row, "seconds": round(seconds, 3)})
        if self.listener.epoch is not None:
            planned = self.settings.epochs
            self.listener.epoch(EpochEvent(self.name, epoch, planned, loss, metrics, seconds, best))


def learner_logits(learner: Learner, corpus: Corpus, first_position: int) -> list[np.ndarray]:
    """Return the logits of `corpus` in its order, with the learner's present weights."""
    jobs = [Job(encoded, 0) for encoded in corpus.encoded]
    with torch.no_grad():
        trunk, adapter = learner.running_trunk(), learner.adapter("training")
    return compute_logits(trunk, first_position, [adapter], jobs)
