"""One adapter to train: its job, its runs on the encoded data, and its result, which is evaluated and stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from onetrunk.adapters.format.artifact import ArtifactContent, read_manifest
from onetrunk.adapters.format.manifest import Manifest
from onetrunk.adapters.store.references import validate_name
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.data.notes import Note
from onetrunk.core.data.training_data import TrainData
from onetrunk.core.errors import OneTrunkError, UsageError
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.inference.adapter_io import load_adapter
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import JSONObject, TaskSpec
from onetrunk.core.tasks.guarded_calls import configured
from onetrunk.core.tasks.hookspecs import EpochEvent, StepEvent
from onetrunk.core.training.encoded_dataset import EncodedDataset, encode_dataset
from onetrunk.core.training.epoch_choice import FEW_HELD_OUT, EpochChoice
from onetrunk.core.training.long_texts import TextLimit
from onetrunk.core.training.loop import AdapterRun
from onetrunk.core.training.manifest_builder import (
    Destination,
    artifact_content,
    bare_manifest,
    data_record,
    store_content,
    training_record,
)
from onetrunk.core.training.parent_comparison import ParentResult, parent_notes
from onetrunk.core.training.promotion import Promotion, decide, measure_current
from onetrunk.core.training.run_state import NO_CALLBACK, FinishedRun, TrainingCallback, TrainingRun, planned
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.storage import check_label_count, check_storable, keep_aside
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
    notes: on the data, and after them those on the training.
    promotion: whether the name means the new version; None if nothing is stored.
    parent: the adapter that training started from; None for new weights.
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
    promotion: Promotion | None = None
    parent: ParentResult | None = None


class PreparedJob:
    """A job that is ready to train: with its encoded data and its training runs.

    runs: the run on train, which is evaluated on dev. If dev is a small part of the rows, held out, there is a
        second run on all rows, whose adapter is stored.
    """

    def __init__(
        self, host: PluginHost, store: Store, job: TrainJob, backbone: Backbone, trunk: Trunk
    ) -> None:
        self._host, self._store, self._job, self._backbone = host, store, job, backbone
        self._trunk = trunk
        validate_name(job.name)
        store.check_writable(job.name)  # otherwise the error would only show after the training
        spec, settings = configured(host.task(job.task), job.settings.options), job.settings
        if settings.method == "full":
            raise UsageError("method 'full' trains no adapter; run it alone, with `adapters train`")
        start = None
        if job.start is not None:
            artifact = job.start.read()  # loaded in float32, because a trunk in bf16 would round the weights
            start = load_adapter(job.start.ref, artifact, spec, backbone, trunk_of(backbone, torch.float32))
            spec = start.spec  # with the word splitter that the adapter was trained with
            settings = _inherit(settings, start)
        settings = replace(settings, targets=settings.adapted_modules(backbone.family.layout.modules))
        self._splits, notes = encode_splits(spec, backbone, job.data, settings.max_windows)
        train, dev = self._splits["train"], self._splits["dev"]
        units = max(own.units for split, own in self._splits.items() if split != "train")
        check_label_count(len(job.data.labels), backbone.hidden_size, units)
        settings = planned(settings, train)
        few = job.data.held_out and settings.patience is None and len(dev.examples) < FEW_HELD_OUT

        def run(rows: EncodedDataset, dev: EncodedDataset | None, callback: TrainingCallback) -> AdapterRun:
            own = TrainableAdapter(spec, job.data.labels, backbone, trunk, settings, start)
            return TrainingRun(job.name, own, rows, dev, callback, EpochChoice(0, None) if few else None)

        self.runs = [run(train, dev, with_plugins(job.callback, host))]
        if few:
            self.runs.append(run(train + dev, None, NO_CALLBACK))
            notes.append(_all_rows_note(settings.epochs or 0, train, dev))
        for note in notes:
            self.runs[0].note(note)
        # Errors in the evaluation or in the storing of the adapter would otherwise only show after the training.
        metrics = self.runs[0].trainable.trial(dev, self._splits.get("test"))
        check_storable(store, job.name, *self._artifact({}, metrics, {}))
        self._parent: ParentResult | None = None
        if job.start is not None:
            own = self.runs[0].trainable
            before = own.evaluator.on_dev(dev, own.logits(dev)).metrics
            self._parent = ParentResult(job.start.ref, read_manifest(job.start.path), before)

    def finish(self) -> TrainResult:
        """Evaluate the finished run, store its adapter, and promote it if it is not worse than the current version.

        Raises the exception that ended the run.
        """
        run, job = self.runs[0].result(), self._job
        if len(self.runs) > 1:
            run = replace(run, trainable=self.runs[1].result().trainable, all_rows=True)
        result = result_of(run, self._splits, self._backbone)
        manifest, content = self._artifact(
            result.decoder, result.metrics, training_record(run, self._backbone), run.history
        )
        stored, promotion = self._stored(result, manifest, content)
        size = sum(file.stat().st_size for file in stored.path.glob("*.safetensors"))
        notes = [*job.data.notes, *run.notes, *result.notes, *promotion.notes]
        if self._parent is not None:
            notes += parent_notes(run.trainable.spec, self._parent, job.data, result.metrics["dev"])
        return replace(
            result,
            stored=stored,
            bytes=size,
            notes=tuple(notes),
            promotion=promotion,
            parent=self._parent,
        )

    def _artifact(
        self,
        decoder: JSONObject,
        metrics: Mapping[str, JSONObject],
        training: JSONObject,
        history: Sequence[JSONObject] = (),
    ) -> tuple[Manifest, ArtifactContent]:
        """Return the manifest and the content of the artifact with the current weights."""
        job, trainable = self._job, self.runs[-1].trainable
        settings = trainable.settings
        adapter = replace(trainable.adapter(job.name, decoder), lora=trainable.lora)
        manifest = replace(
            bare_manifest(self._host, adapter, self._backbone, trainable.trained_parameters),
            method="head" if settings.method == "head" else "lora",
            data={
                split: data_record(dataset, self._splits[split].notes)
                for split, dataset in job.data.splits.items()
            },
            metrics=dict(metrics),
            training=training,
            parent=None if job.start is None else job.start.ref,
        )
        content = artifact_content(job.name, adapter, self._backbone, manifest, settings.dropout, history)
        return manifest, content

    def _stored(
        self, result: TrainResult, manifest: Manifest, content: ArtifactContent
    ) -> tuple[StoredVersion, Promotion]:
        """Store the adapter as the next version, and promote it by the rule of the settings."""
        job, trainable = self._job, result.run.trainable
        rule, before = trainable.settings.promote, self._store.current(job.name)
        spec, backbone = trainable.spec, self._backbone
        current = measure_current(before, spec, job.data, self._splits, backbone, self._trunk)
        wanted, reason = decide(rule, spec.primary, result.metrics, current)

        def promote(now: StoredVersion | None) -> bool:
            # Another run may have moved the name to a version that was not compared.
            return wanted and (rule == "always" or (now and now.ref) == (before and before.ref))

        destination = Destination(self._host, self._store, job.name, promote=promote)
        try:
            stored = store_content(destination, manifest, content)
        except OneTrunkError as error:
            raise keep_aside(error, self._store, job.name, manifest, content) from error
        if wanted and not stored.is_current:
            before, reason = self._store.current(job.name), "it was set while this training ran"
        previous = None if before is None else before.ref
        return stored, Promotion(job.name, stored.ref, stored.is_current, previous, current.metrics, reason)


def _all_rows_note(epochs: int, train: EncodedDataset, dev: EncodedDataset) -> Note:
    rows, held = len(train.examples) + len(dev.examples), len(dev.examples)
    message = (
        f"{rows} rows are too few to train without the {held} held out as dev: the adapter is trained on all rows "
        f"for {epochs} epochs; its dev metrics come from a second training without these {held} rows, and depend "
        "largely on chance; to measure the adapter, give a test file with --test"
    )
    return Note("few-rows", message, "train", rows)


def with_plugins(callback: TrainingCallback, host: PluginHost) -> TrainingCallback:
    """Return a callback that passes each event to `callback`, and then to the plugins of `host`."""

    def step(event: StepEvent) -> None:
        callback.step(event)
        host.notify("training_step", event=event)

    def epoch(event: EpochEvent) -> None:
        callback.epoch(event)
        host.notify("training_epoch", event=event)

    return TrainingCallback(step, epoch, callback.note)


def encode_splits(
    spec: TaskSpec, backbone: Backbone, data: TrainData, max_windows: int
) -> tuple[dict[str, EncodedDataset], list[Note]]:
    """Return the encoded splits of `data` by name, and the notes on train. Raises the errors of `encode_dataset`.

    max_windows: the largest number of windows of a training text; see `TextLimit`.
    """
    splits = {
        split: encode_dataset(
            spec, backbone, dataset.examples, data.labels, dataset.source, allow_unknown=split != "train"
        )
        for split, dataset in data.splits.items()
    }
    splits["train"], notes = TextLimit(backbone.encoder, spec, max_windows).apply(splits["train"])
    return splits, notes


def result_of(run: FinishedRun[Any], splits: Mapping[str, EncodedDataset], backbone: Backbone) -> TrainResult:
    """Evaluate a finished run on the test split, if there is one, and return its result; store nothing."""
    trainable, metrics = run.trainable, {"dev": run.dev.metrics}
    if (test := splits.get("test")) is not None:
        metrics["test"] = trainable.evaluator.metrics(test, trainable.logits(test), run.dev.decoder)
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
