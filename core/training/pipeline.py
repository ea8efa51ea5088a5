"""From checked data to stored adapters: train, alone or several at once, calibrate, evaluate, store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from onetrunk.adapters.store.references import validate_name
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.data.training_data import TrainData
from onetrunk.core.errors import UsageError
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.inference.adapter_io import load_adapter
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import JSONObject, TaskSpec
from onetrunk.core.tasks.guarded_calls import targets_of
from onetrunk.core.tasks.hookspecs import EpochEvent, StepEvent
from onetrunk.core.training.encoded_dataset import Corpus, make_corpus
from onetrunk.core.training.evaluation import measure, rehearse
from onetrunk.core.training.loop import train_together
from onetrunk.core.training.manifest_builder import Destination, manifest_of, store_adapter
from onetrunk.core.training.run_state import Listener, Run, Trained, planned
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.trainable import Learner
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.build import trunk_of


@dataclass(frozen=True, slots=True)
class TrainJob:
    """One adapter to train: for `task`, as the next version of `name`.

    start: a version whose updates and head are trained on; its rank, alpha and targets are kept.
    listener: is called with each step and epoch, before the plugins are.
    """

    task: str
    name: str
    data: TrainData
    settings: TrainSettings
    start: StoredVersion | None = None
    listener: Listener | None = None


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a finished run gives.

    stored: the new version; None for method `full`, whose whole encoder is no adapter.
    metrics: by split, `dev` and, if there was one, `test`.
    decoder: its settings, which were calibrated on dev; {} for a task without.
    trained: parameters trained; share: of the backbone's parameters; bytes: size of the artifact's weights.
    """

    stored: StoredVersion | None
    metrics: Mapping[str, JSONObject]
    decoder: JSONObject
    trained: int
    share: float
    bytes: int
    loss: float
    run: Trained[Any]


_T = TypeVar("_T")

Outcome = TrainResult | Exception
"""What becomes of a job among several: its result, or what ended it."""


def train_adapter(
    host: PluginHost,
    store: Store,
    task: str,
    name: str,
    data: TrainData,
    backbone: Backbone,
    settings: TrainSettings,
    *,
    start: StoredVersion | None = None,
    listener: Listener | None = None,
) -> TrainResult:
    """Train `task` on `data` and store the result as the next version of `name`.

    Nothing is visible in the store before the whole run has succeeded. Raises what ended the run.
    """
    (outcome,) = train_adapters(
        host, store, [TrainJob(task, name, data, settings, start, listener)], backbone
    )
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def train_adapters(
    host: PluginHost,
    store: Store,
    jobs: Sequence[TrainJob],
    backbone: Backbone,
    ended: Callable[[int, Outcome], None] | None = None,
) -> list[Outcome]:
    """Train `jobs` over one trunk in shared passes; return what became of each, in their order.

    Each adapter is stored as soon as its own run has succeeded, and `ended` hears of its index and its outcome;
    what ends one run ends no other.
    """
    check_trainable(backbone)
    trunk = trunk_of(backbone)
    outcomes: dict[int, Outcome] = {}
    pending: dict[int, _Pending] = {}

    def end(index: int, outcome: Outcome) -> None:
        outcomes[index] = outcome
        if ended is not None:
            ended(index, outcome)

    for index, job in enumerate(jobs):
        prepared = _attempt(lambda job=job: _Pending(host, store, job, backbone, trunk))  # type: ignore[misc]
        if isinstance(prepared, Exception):
            end(index, prepared)
        else:
            pending[index] = prepared
    by_run = {own.run: index for index, own in pending.items()}
    for run in train_together(list(by_run), trunk):
        index = by_run.pop(run)
        end(index, _attempt(pending.pop(index).finish))
    return [outcomes[index] for index in range(len(jobs))]


def _attempt(act: Callable[[], _T]) -> _T | Exception:
    """Return what `act` returns, or what it raises, which is for the caller to report."""
    try:
        return act()
    except Exception as error:
        return error


class _Pending:
    """A job under way."""

    def __init__(
        self, host: PluginHost, store: Store, job: TrainJob, backbone: Backbone, trunk: Trunk
    ) -> None:
        self._host, self._store, self._job, self._backbone = host, store, job, backbone
        validate_name(job.name)
        store.check_writable(job.name)  # not after all the work
        spec, settings = host.task(job.task), job.settings
        if settings.method == "full":
            raise UsageError("method 'full' trains no adapter; run it alone, with `adapters train`")
        begin = None
        if job.start is not None:
            begin = _load_exactly(job.start, spec, backbone)
            settings = _inherit(settings, begin)
        settings = replace(settings, targets=settings.adapted_modules(backbone.family.layout.modules))
        if settings.class_weights == "balanced":
            check_countable(spec, job.data)
        self._corpora = corpora_of(spec, backbone, job.data)
        train, dev = self._corpora["train"], self._corpora["dev"]
        settings = planned(settings, train)
        learner = Learner(spec, job.data.labels, backbone, trunk, settings, begin)
        self.run = Run(job.name, learner, train, dev, with_plugins(job.listener, host))
        rehearse(learner, dev)

    def finish(self) -> TrainResult:
        """Measure the finished run and store it. Raises what ended it."""
        run = self.run.result()
        result = result_of(run, self._corpora, self._backbone)
        stored = self._stored(run, result)
        size = sum(file.stat().st_size for file in stored.path.glob("*.safetensors"))
        return replace(result, stored=stored, bytes=size)

    def _stored(self, run: Trained[Learner], result: TrainResult) -> StoredVersion:
        job, backbone, learner = self._job, self._backbone, run.learner
        adapter = replace(learner.adapter(job.name, result.decoder), lora=learner.lora)
        manifest = manifest_of(self._host, adapter, backbone, job.data, result.metrics, run, job.start)
        destination = Destination(self._host, self._store, job.name)
        dropout = learner.settings.dropout
        return store_adapter(destination, adapter, backbone, manifest, dropout=dropout, history=run.history)


def with_plugins(listener: Listener | None, host: PluginHost) -> Listener:
    """Return a listener that passes each event to `listener`, and then to the plugins of `host`."""
    own = listener or Listener()

    def step(event: StepEvent) -> None:
        if own.step is not None:
            own.step(event)
        host.notify("training_step", event=event)

    def epoch(event: EpochEvent) -> None:
        if own.epoch is not None:
            own.epoch(event)
        host.notify("training_epoch", event=event)

    return Listener(step, epoch)


def check_trainable(backbone: Backbone) -> None:
    """Raise UsageError for a backbone in int8."""
    if backbone.dtype == torch.int8:
        raise UsageError("a backbone in int8 serves only; load it in fp32 or bf16 to train")


def corpora_of(spec: TaskSpec, backbone: Backbone, data: TrainData) -> dict[str, Corpus]:
    """Return each split of `data` by name, encoded. Raises DataError and TaskSpecError."""
    return {
        split: make_corpus(spec, backbone, dataset.examples, data.labels)
        for split, dataset in data.splits.items()
    }


def result_of(run: Trained[Any], corpora: Mapping[str, Corpus], backbone: Backbone) -> TrainResult:
    """Return what a run gives, measured on test if there is one, before anything is stored."""
    learner, metrics = run.learner, {"dev": run.dev.metrics}
    if (test := corpora.get("test")) is not None:
        metrics["test"] = measure(learner, test, learner.logits(test), run.dev.decoder)
    trained = learner.trained_parameters
    loss = float(run.history[run.best_epoch - 1]["loss"])
    return TrainResult(None, metrics, run.dev.decoder, trained, trained / backbone.parameters, 0, loss, run)


def check_countable(spec: TaskSpec, data: TrainData) -> None:
    """Raise UsageError unless each unit of the training data has one label index, which can be counted."""
    for example in data.train.examples:
        own = targets_of(spec, example, data.labels)
        floats = any(isinstance(target, float) for target in own)
        if floats or len(own) != spec.units(example) or max(own, default=0) >= len(data.labels):
            raise UsageError(
                f"class-weights balanced counts how often each label occurs, but a target of task {spec.name!r} "
                "is not one label a unit; leave the option out"
            )


def _load_exactly(start: StoredVersion, spec: TaskSpec, backbone: Backbone) -> Adapter:
    """Load the adapter to start from in float32: the precision of the trunk would round its weights."""
    exact = trunk_of(backbone, torch.float32)
    return load_adapter(start.ref, start.read(), spec, backbone, exact)


def _inherit(settings: TrainSettings, begin: Adapter) -> TrainSettings:
    """Return `settings` with the shape of the adapter to start from."""
    updates = begin.lora.updates
    if not updates:
        return replace(settings, method="head", pooling=begin.pooling)
    first = next(iter(updates.values()))
    rank, layers = first.a.shape[0], {layer for layer, _ in updates}
    return replace(
        settings,
        method="lora",
        pooling=begin.pooling,
        rank=rank,
        alpha=first.scale * rank,
        targets=tuple({module: None for _, module in updates}),
        layers="all" if min(layers) == 0 else f"last-{len(layers)}",
    )
