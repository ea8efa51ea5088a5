"""From files to a stored adapter: read, check everything, train, calibrate, evaluate, store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from onetrunk.adapters.artifact import read_artifact, write_artifact
from onetrunk.adapters.card import render_card
from onetrunk.adapters.manifest import BackboneRecord, DataRecord, Manifest, Parameters, PluginRecord
from onetrunk.adapters.references import validate_name
from onetrunk.adapters.store import Store, StoredVersion
from onetrunk.core.adapter import Adapter
from onetrunk.core.adapter_files import load_adapter, record_probe, stored_form
from onetrunk.core.backbone import Backbone
from onetrunk.core.data.dataset import Dataset, check_targets, find_splits, hold_out, load_dataset
from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.learner import Learner
from onetrunk.core.plugin_host import PluginHost
from onetrunk.core.settings import TrainSettings
from onetrunk.core.tasks import JSONObject, Labels, TaskSpec
from onetrunk.core.trainer import Corpus, Listener, Trained, learner_logits, make_corpus, train
from onetrunk.core.trunk import Trunk


@dataclass(frozen=True, slots=True)
class TrainData:
    """The splits of a run, read and checked; dev is held out of train where the user gave none."""

    train: Dataset
    dev: Dataset
    test: Dataset | None
    labels: Labels
    held_out: bool

    @property
    def splits(self) -> dict[str, Dataset]:
        """The splits by name, without a missing test."""
        named = {"train": self.train, "dev": self.dev, "test": self.test}
        return {name: dataset for name, dataset in named.items() if dataset is not None}


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a finished run gives.

    stored: the new version; None for method `full`, whose whole encoder is no adapter.
    metrics: by split, `dev` and, if there was one, `test`.
    trained: parameters trained; share: of the backbone's parameters; bytes: size of the artifact's weights.
    """

    stored: StoredVersion | None
    metrics: Mapping[str, JSONObject]
    trained: int
    share: float
    bytes: int
    loss: float
    run: Trained


def read_train_data(
    spec: TaskSpec,
    train_file: str | Path,
    dev_file: str | Path | None = None,
    test_file: str | Path | None = None,
    *,
    seed: int = 0,
    labels: Labels | None = None,
) -> TrainData:
    """Read and check every split before anything is trained.

    train_file: a file, `-`, or a folder with train, dev and test files. Without a dev file a stratified tenth of
    train is held out, drawn by `seed`.  labels: those of the adapter to start from, instead of learning them.
    Raises DataError with file and line.
    """
    if train_file != "-" and Path(train_file).is_dir():
        splits = find_splits(train_file)
        train_file, dev_file, test_file = splits.train, dev_file or splits.dev, test_file or splits.test
    data = load_dataset(spec, train_file)
    held_out = dev_file is None
    parts = hold_out(data, seed=seed) if dev_file is None else (data, load_dataset(spec, dev_file))
    test = None if test_file is None else load_dataset(spec, test_file)
    known = _labels(spec, data) if labels is None else labels
    for dataset in (*parts, test):
        if dataset is not None:
            check_targets(spec, dataset, known)
    for dataset in parts:
        _check_any_label(spec, dataset, known)
    return TrainData(parts[0], parts[1], test, known, held_out)


def _check_any_label(spec: TaskSpec, dataset: Dataset, labels: Labels) -> None:
    """Raise DataError where no unit has a label (all rows `oos`, say): nothing to learn, no epoch to choose."""
    if not any(target >= 0 for example in dataset.examples for target in spec.targets(example, labels)):
        raise DataError(dataset.source, f"no row has one of the labels: {', '.join(labels[:20])}")


def _labels(spec: TaskSpec, data: Dataset) -> Labels:
    try:
        return spec.learn_labels(data.examples)
    except ValueError as error:
        raise DataError(data.source, str(error)) from error


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

    start: a version whose updates and head are trained on; its rank, alpha and targets are kept.
    Nothing is visible in the store before the whole run has succeeded.
    """
    validate_name(name)
    if settings.method != "full":
        store.check_writable(name)  # not after all the work
    spec = host.task(task)
    trunk = Trunk.of(backbone)
    begin = None if start is None else _load_exactly(start, spec, backbone)
    if begin is not None:
        settings = _inherit(settings, begin, start)
    settings = replace(settings, targets=settings.adapted_modules(backbone.family.layout.modules))
    corpora = {
        split: make_corpus(spec, backbone, d.examples, data.labels) for split, d in data.splits.items()
    }
    run = train(
        spec, name, corpora["train"], corpora["dev"], data.labels, backbone, trunk, settings,
        start=begin, listener=listener,
    )  # fmt: skip
    decoder, metrics = _measure(run.learner, corpora, backbone.first_position)
    stored, size = None, 0
    if settings.method != "full":
        adapter = replace(run.learner.adapter(name, decoder), lora=run.learner.lora)
        manifest = _manifest(host, spec, adapter, backbone, data, metrics, run, start)
        stored = _store(store, name, adapter, backbone, manifest, run)
        size = sum(f.stat().st_size for f in stored.path.glob("*.safetensors"))
        host.notify("adapter_stored", name=name, version=stored.version, path=stored.path)
    trained = run.learner.trained_parameters
    loss = float(run.history[run.best_epoch - 1]["loss"])
    return TrainResult(stored, metrics, trained, trained / backbone.parameters, size, loss, run)


def _load_exactly(start: StoredVersion, spec: TaskSpec, backbone: Backbone) -> Adapter:
    """Load the adapter to start from in float32: the precision of the trunk would round its weights."""
    exact = Trunk.of(backbone, torch.float32)
    return load_adapter(start.ref, read_artifact(start.path), spec, backbone, exact)


def _inherit(settings: TrainSettings, begin: Adapter, start: StoredVersion | None) -> TrainSettings:
    """Return `settings` with the shape of the adapter to start from. Raises UsageError where that cannot be."""
    ref = start.ref if start else begin.ref
    if settings.method == "full":
        raise UsageError(f"method 'full' cannot start from {ref}, which is an adapter")
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


def _measure(
    learner: Learner, corpora: Mapping[str, Corpus], first_position: int
) -> tuple[JSONObject, dict[str, JSONObject]]:
    """Calibrate the decoder on dev; return its settings and the metrics of dev and test with them."""
    spec, labels, dev = learner.spec, learner.labels, corpora["dev"]
    logits = {
        split: learner_logits(learner, c, first_position) for split, c in corpora.items() if split != "train"
    }
    decoder = {} if spec.calibrate is None else spec.calibrate(dev.examples, logits["dev"], labels)
    metrics = {
        split: spec.evaluate(corpora[split].examples, own, labels, decoder) for split, own in logits.items()
    }
    return decoder, metrics


def _manifest(
    host: PluginHost,
    spec: TaskSpec,
    adapter: Adapter,
    backbone: Backbone,
    data: TrainData,
    metrics: Mapping[str, JSONObject],
    run: Trained,
    start: StoredVersion | None,
) -> Manifest:
    distribution, plugin_version = host.origin(spec.name)
    settings = run.learner.settings
    return Manifest(
        onetrunk=version("onetrunk"),
        task=spec.name,
        plugin=PluginRecord(distribution=distribution, version=plugin_version),
        level=spec.level,
        labels=adapter.labels,
        pooling=adapter.pooling if spec.level == "text" else None,
        head="file" if getattr(adapter.head, "peft_task_type", None) is None else "peft",
        method="head" if settings.method == "head" else "lora",
        settings=adapter.settings,
        backbone=backbone_record(backbone),
        data={split: _data_record(dataset) for split, dataset in data.splits.items()},
        metrics=dict(metrics),
        training={**settings.to_json(), "best_epoch": run.best_epoch, "seconds": round(run.seconds, 1)},
        parent=None if start is None else start.ref,
        parameters=Parameters(trained=run.learner.trained_parameters, backbone=backbone.parameters),
        probe=record_probe(adapter, backbone),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def backbone_record(backbone: Backbone) -> BackboneRecord:
    """Return what an artifact says of its backbone; a local folder is named without its path."""
    return BackboneRecord(
        name=backbone.public_name,
        revision=backbone.revision,
        fingerprint=backbone.fingerprint,
        tokenizer=backbone.tokenizer_fingerprint,
        style=backbone.family.style,
        hidden_size=backbone.hidden_size,
        layers=backbone.layers,
    )


def _data_record(dataset: Dataset) -> DataRecord:
    source = Path(dataset.source.partition(" (")[0]).name or dataset.source
    return DataRecord(sha256=dataset.sha256, rows=len(dataset.examples), source=source)


def _store(
    store: Store, name: str, adapter: Adapter, backbone: Backbone, manifest: Manifest, run: Trained
) -> StoredVersion:
    config, model, head = stored_form(adapter, backbone, run.learner.settings.dropout)
    card = render_card(name, manifest, getattr(adapter.head, "card_recipe", None), adapter.spec.summary)
    return store.add(
        name,
        lambda folder: write_artifact(
            folder,
            manifest,
            adapter_config=config,
            adapter_model=model,
            head=head,
            card=card,
            history=run.history,
        ),
    )
