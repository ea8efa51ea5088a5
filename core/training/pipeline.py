"""The training pipeline: encode checked data, train adapters over one trunk, evaluate and store them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from onetrunk.adapters.store.references import validate_name
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.data.notes import Note
from onetrunk.core.data.training_data import TrainData
from onetrunk.core.errors import UsageError
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.inference.adapter_io import load_adapter
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import JSONObject, TaskSpec
from onetrunk.core.tasks.hookspecs import EpochEvent, StepEvent
from onetrunk.core.training.encoded_dataset import EncodedDataset, encode_dataset
from onetrunk.core.training.loop import AdapterRun, train_together
from onetrunk.core.training.manifest_builder import Destination, bare_manifest, data_record, store_adapter
from onetrunk.core.training.run_state import NO_CALLBACK, FinishedRun, TrainingCallback, TrainingRun, planned
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.trainable import TrainableAdapter
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.build import trunk_of


@dataclass(frozen=True, slots=True)
class TrainJob:
    """One adapter to train.

    name: the name of the adapter in the store; the result becomes its next version.
    start: a stored version whose weights are trained further; None to start from new weights. The method, pooling,
        rank, alpha, targets and layers of this version replace those of `settings`.
    callback: called after each step and epoch, before the plugins are notified.
    """

    task: str
    name: str
    data: TrainData
    settings: TrainSettings
    start: StoredVersion | None = None
    callback: TrainingCallback = NO_CALLBACK


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The result of a finished run.

    stored: the new version; None for method `full`, which stores nothing.
    metrics: the metrics by split: of `dev`, and of `test` if the data has this split.
    decoder: the decoder settings, calibrated on dev; {} for a task without calibration.
    trained: the number of trained parameters.
    share: `trained` divided by the number of parameters of the backbone.
    bytes: the size of the stored weight files; 0 if nothing is stored.
    loss: the mean training loss of the best epoch.
    run: the finished run, with a record of each epoch.
    notes: on the data and on the training.
    """

    stored: StoredVersion | None
    metrics: Mapping[str, JSONObject]
    decoder: JSONObject
    trained: int
    share: float
    bytes: int
    loss: float
    run: FinishedRun[Any]
    notes: tuple[Note, ...] = ()


Outcome = TrainResult | Exception
"""The result of a job, or the exception that ended it."""


def train_adapter(host: PluginHost, store: Store, job: TrainJob, backbone: Backbone) -> TrainResult:
    """Train one adapter and store it. Raises the exception that ended the run; then nothing is stored."""
    (outcome,) = train_adapters(host, store, [job], backbone)
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
    """Train `jobs` over one trunk in shared forward and backward passes; return one outcome per job, in order.

    Each adapter is stored as soon as its run has succeeded. An exception in one job does not stop the other jobs.

    ended: called at the end of each job, with the index and the outcome of the job.
    Raises UsageError for a backbone in int8.
    """
    check_trainable(backbone)
    trunk = trunk_of(backbone)
    outcomes: dict[int, Outcome] = {}
    prepared: dict[AdapterRun, tuple[int, _PreparedJob]] = {}

    def end(index: int, outcome: Outcome) -> None:
        outcomes[index] = outcome
        if ended is not None:
            ended(index, outcome)

    for index, job in enumerate(jobs):
        try:
            ready = _PreparedJob(host, store, job, backbone, trunk)
        except Exception as error:
            end(index, error)
        else:
            prepared[ready.run] = index, ready
    for run in train_together(list(prepared), trunk):
        index, ready = prepared.pop(run)
        try:
            outcome: Outcome = ready.finish()
        except Exception as error:
            outcome = error
        end(index, outcome)
    return [outcomes[index] for index in range(len(jobs))]


class _PreparedJob:
    """A job that is ready to train: with its encoded data and its training run."""

    def __init__(
        self, host: PluginHost, store: Store, job: TrainJob, backbone: Backbone, trunk: Trunk
    ) -> None:
        self._host, self._store, self._job, self._backbone = host, store, job, backbone
        validate_name(job.name)
        store.check_writable(job.name)  # otherwise the error would only show after the training
        spec, settings = host.task(job.task), job.settings
        if settings.method == "full":
            raise UsageError("method 'full' trains no adapter; run it alone, with `adapters train`")
        start = None
        if job.start is not None:
            artifact = job.start.read()  # loaded in float32, because a trunk in bf16 would round the weights
            start = load_adapter(job.start.ref, artifact, spec, backbone, trunk_of(backbone, torch.float32))
            spec = start.spec  # with the word splitter that the adapter was trained with
            settings = _inherit(settings, start)
        settings = replace(settings, targets=settings.adapted_modules(backbone.family.layout.modules))
        self._splits = encode_splits(spec, backbone, job.data)
        train, dev = self._splits["train"], self._splits["dev"]
        settings = planned(settings, train)
        trainable = TrainableAdapter(spec, job.data.labels, backbone, trunk, settings, start)
        self.run = TrainingRun(job.name, trainable, train, dev, with_plugins(job.callback, host))
        trainable.dry_run(dev)

    def finish(self) -> TrainResult:
        """Evaluate the finished run and store its adapter. Raises the exception that ended the run."""
        run, job = self.run.result(), self._job
        result = result_of(run, self._splits, self._backbone)
        trainable, settings = run.trainable, run.trainable.settings
        adapter = replace(trainable.adapter(job.name, result.decoder), lora=trainable.lora)
        manifest = replace(
            bare_manifest(self._host, adapter, self._backbone, result.trained),
            method="head" if settings.method == "head" else "lora",
            data={
                split: data_record(dataset, self._splits[split].notes)
                for split, dataset in job.data.splits.items()
            },
            metrics=dict(result.metrics),
            training={**settings.to_json(), "best_epoch": run.best_epoch, "seconds": round(run.seconds, 1)},
            parent=None if job.start is None else job.start.ref,
        )
        stored = store_adapter(
            Destination(self._host, self._store, job.name),
            adapter,
            self._backbone,
            manifest,
            dropout=settings.dropout,
            history=run.history,
        )
        size = sum(file.stat().st_size for file in stored.path.glob("*.safetensors"))
        return replace(result, stored=stored, bytes=size, notes=(*job.data.notes, *result.notes))


def with_plugins(callback: TrainingCallback, host: PluginHost) -> TrainingCallback:
    """Return a callback that passes each event to `callback`, and then to the plugins of `host`."""

    def step(event: StepEvent) -> None:
        callback.step(event)
        host.notify("training_step", event=event)

    def epoch(event: EpochEvent) -> None:
        callback.epoch(event)
        host.notify("training_epoch", event=event)

    return TrainingCallback(step, epoch)


def check_trainable(backbone: Backbone) -> None:
    """Raise UsageError for a backbone in int8."""
    if backbone.dtype == torch.int8:
        raise UsageError("a backbone in int8 can only predict; load it in fp32 or bf16 to train")


def encode_splits(spec: TaskSpec, backbone: Backbone, data: TrainData) -> dict[str, EncodedDataset]:
    """Return the encoded splits of `data` by name. Raises the errors of `encode_dataset`."""
    return {
        split: encode_dataset(spec, backbone, dataset.examples, data.labels, dataset.source)
        for split, dataset in data.splits.items()
    }


def result_of(run: FinishedRun[Any], splits: Mapping[str, EncodedDataset], backbone: Backbone) -> TrainResult:
    """Evaluate a finished run on the test split, if there is one, and return its result; store nothing."""
    trainable, metrics = run.trainable, {"dev": run.dev.metrics}
    if (test := splits.get("test")) is not None:
        metrics["test"] = trainable.evaluate(test, trainable.logits(test), run.dev.decoder)
    trained = trainable.trained_parameters
    loss = float(run.history[run.best_epoch - 1]["loss"])
    notes = tuple(note for dataset in splits.values() for note in dataset.notes)
    share = trained / backbone.parameters
    return TrainResult(None, metrics, run.dev.decoder, trained, share, 0, loss, run, notes)


def _inherit(settings: TrainSettings, start: Adapter) -> TrainSettings:
    """Return `settings` with the method, pooling, rank, alpha, targets and layers of `start`."""
    updates = start.lora.updates
    if not updates:
        return replace(settings, method="head", pooling=start.pooling)
    first = next(iter(updates.values()))
    rank, layers = first.a.shape[0], {layer for layer, _ in updates}
    return replace(
        settings,
        method="lora",
        pooling=start.pooling,
        rank=rank,
        alpha=first.scale * rank,
        targets=tuple({module: None for _, module in updates}),
        layers="all" if min(layers) == 0 else f"last-{len(layers)}",
    )
