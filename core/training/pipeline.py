"""The training pipeline: encode checked data, train one or several adapters, evaluate them, store them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

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
from onetrunk.core.training.evaluation import dry_run, evaluate
from onetrunk.core.training.loop import train_together
from onetrunk.core.training.manifest_builder import Destination, bare_manifest, data_record, store_adapter
from onetrunk.core.training.run_state import NO_CALLBACK, FinishedRun, TrainingCallback, TrainingRun, planned
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.trainable import TrainableAdapter
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.build import trunk_of


@dataclass(frozen=True, slots=True)
class TrainJob:
    """One adapter to train.

    task: the name of the task.
    name: the name of the adapter in the store; the result becomes its next version.
    data: the checked splits.
    settings: how to train.
    start: a stored version whose LoRA weights and head are trained further; its rank, alpha, targets and layers
        replace those of `settings`.
    callback: called after each step and epoch, before the plugins.
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
    metrics: by split: `dev`, and `test` if the data has it.
    decoder: the decoder settings, calibrated on dev; {} for a task without calibration.
    trained: the number of trained parameters.
    share: `trained`, as a share of the parameters of the backbone.
    bytes: the size of the stored weight files; 0 if nothing is stored.
    loss: the mean training loss of the best epoch.
    run: the trained weights, and a record of each epoch.
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


_T = TypeVar("_T")

Outcome = TrainResult | Exception
"""The result of a job, or the exception that ended it."""


def train_adapter(host: PluginHost, store: Store, job: TrainJob, backbone: Backbone) -> TrainResult:
    """Train one adapter and store it.

    The new version becomes visible in the store only after the whole run has succeeded.
    Raises the exception that ended the run.
    """
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

    Each adapter is stored as soon as its own run has succeeded. An exception of one job does not end the others.

    ended: called with the index and the outcome of each job as soon as the job has ended.
    Raises UsageError for a backbone in int8.
    """
    check_trainable(backbone)
    trunk = trunk_of(backbone)
    outcomes: dict[int, Outcome] = {}
    prepared: dict[int, _PreparedJob] = {}

    def end(index: int, outcome: Outcome) -> None:
        outcomes[index] = outcome
        if ended is not None:
            ended(index, outcome)

    for index, job in enumerate(jobs):
        own = _attempt(lambda job=job: _PreparedJob(host, store, job, backbone, trunk))  # type: ignore[misc]
        if isinstance(own, Exception):
            end(index, own)
        else:
            prepared[index] = own
    by_run = {own.run: index for index, own in prepared.items()}
    for run in train_together(list(by_run), trunk):
        index = by_run.pop(run)
        end(index, _attempt(prepared.pop(index).finish))
    return [outcomes[index] for index in range(len(jobs))]


def _attempt(act: Callable[[], _T]) -> _T | Exception:
    """Return the result of `act`, or the exception that it raises; the caller reports it."""
    try:
        return act()
    except Exception as error:
        return error


class _PreparedJob:
    """A job with its encoded data and its training run."""

    def __init__(
        self, host: PluginHost, store: Store, job: TrainJob, backbone: Backbone, trunk: Trunk
    ) -> None:
        self._host, self._store, self._job, self._backbone = host, store, job, backbone
        validate_name(job.name)
        store.check_writable(job.name)  # before the long work, not after it
        spec, settings = host.task(job.task), job.settings
        if settings.method == "full":
            raise UsageError("method 'full' trains no adapter; run it alone, with `adapters train`")
        start = None
        if job.start is not None:
            start = _load_exactly(job.start, spec, backbone)
            settings = _inherit(settings, start)
        settings = replace(settings, targets=settings.adapted_modules(backbone.family.layout.modules))
        self._splits = encode_splits(spec, backbone, job.data)
        train, dev = self._splits["train"], self._splits["dev"]
        settings = planned(settings, train)
        trainable = TrainableAdapter(spec, job.data.labels, backbone, trunk, settings, start)
        self.run = TrainingRun(job.name, trainable, train, dev, with_plugins(job.callback, host))
        dry_run(trainable, dev)

    def finish(self) -> TrainResult:
        """Evaluate the finished run and store its adapter. Raises the exception that ended the run."""
        run = self.run.result()
        result = result_of(run, self._splits, self._backbone)
        stored = self._store_version(run, result)
        size = sum(file.stat().st_size for file in stored.path.glob("*.safetensors"))
        return replace(result, stored=stored, bytes=size, notes=self._job.data.notes)

    def _store_version(self, run: FinishedRun[TrainableAdapter], result: TrainResult) -> StoredVersion:
        job, trainable = self._job, run.trainable
        settings = trainable.settings
        adapter = replace(trainable.adapter(job.name, result.decoder), lora=trainable.lora)
        manifest = replace(
            bare_manifest(self._host, adapter, self._backbone, result.trained),
            method="head" if settings.method == "head" else "lora",
            data={split: data_record(dataset) for split, dataset in job.data.splits.items()},
            metrics=dict(result.metrics),
            training={**settings.to_json(), "best_epoch": run.best_epoch, "seconds": round(run.seconds, 1)},
            parent=None if job.start is None else job.start.ref,
        )
        return store_adapter(
            Destination(self._host, self._store, job.name),
            adapter,
            self._backbone,
            manifest,
            dropout=settings.dropout,
            history=run.history,
        )


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
        raise UsageError("a backbone in int8 serves only; load it in fp32 or bf16 to train")


def encode_splits(spec: TaskSpec, backbone: Backbone, data: TrainData) -> dict[str, EncodedDataset]:
    """Return the encoded splits of `data` by name. Raises DataError and TaskSpecError as `encode_dataset` does."""
    return {
        split: encode_dataset(spec, backbone, dataset.examples, data.labels)
        for split, dataset in data.splits.items()
    }


def result_of(run: FinishedRun[Any], splits: Mapping[str, EncodedDataset], backbone: Backbone) -> TrainResult:
    """Evaluate a finished run on the test split, if `splits` has one; return its result, with nothing stored."""
    trainable, metrics = run.trainable, {"dev": run.dev.metrics}
    if (test := splits.get("test")) is not None:
        metrics["test"] = evaluate(trainable, test, trainable.logits(test), run.dev.decoder)
    trained = trainable.trained_parameters
    loss = float(run.history[run.best_epoch - 1]["loss"])
    return TrainResult(None, metrics, run.dev.decoder, trained, trained / backbone.parameters, 0, loss, run)


def _load_exactly(start: StoredVersion, spec: TaskSpec, backbone: Backbone) -> Adapter:
    """Load the adapter to start from in float32; in the precision of the trunk its weights would be rounded."""
    exact = trunk_of(backbone, torch.float32)
    return load_adapter(start.ref, start.read(), spec, backbone, exact)


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
