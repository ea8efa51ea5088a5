"""An adapter becomes an artifact in the store, with all that is known of how it came about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from onetrunk.adapters.card import CardFacts, render_card
from onetrunk.adapters.format.artifact import write_artifact
from onetrunk.adapters.format.manifest import (
    SCHEMA,
    BackboneRecord,
    DataRecord,
    Manifest,
    Parameters,
    PluginRecord,
)
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.adapters.store.version_index import Origin
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.data.dataset import Dataset
from onetrunk.core.data.training_data import TrainData
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.inference.adapter_io import record_probe, stored_form
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import JSONObject
from onetrunk.core.training.run_state import FinishedRun
from onetrunk.core.training.trainable import TrainableAdapter


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a new version goes: it is the next one of `name` in `store`, and the plugins of `host` are notified.

    origin: where it was pulled from; None for one that is made here. check: as for `Store.add`.
    """

    host: PluginHost
    store: Store
    name: str
    origin: Origin | None = None
    check: Callable[[Sequence[StoredVersion]], object] | None = None

    def add(self, write: Callable[[Path], object]) -> StoredVersion:
        """Store what `write` puts into a folder, as `Store.add` does, and notify the plugins."""
        stored = self.store.add(self.name, write, self.origin, self.check)
        self.host.notify("adapter_stored", name=stored.name, version=stored.version, path=stored.path)
        return stored


def bare_manifest(host: PluginHost, adapter: Adapter, backbone: Backbone, trained: int) -> Manifest:
    """Return what `task.json` says of an adapter of which nobody knows how it was trained.

    trained: how many of its numbers were trained.
    """
    spec = adapter.spec
    distribution, plugin_version = host.origin(spec.name)
    return Manifest(
        onetrunk=version("onetrunk"),
        task=spec.name,
        plugin=PluginRecord(distribution=distribution, version=plugin_version),
        level=spec.level,
        labels=adapter.labels,
        pooling=adapter.pooling if spec.level == "text" else None,
        head="file" if adapter.format.task_type is None else "peft",
        method="lora",
        settings=adapter.settings,
        backbone=backbone_record(backbone),
        data={},
        metrics={},
        training={},
        parent=None,
        parameters=Parameters(trained=trained, backbone=backbone.parameters),
        probe=record_probe(adapter, backbone),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        files={},
        schema=SCHEMA,
    )


def manifest_of(
    host: PluginHost,
    adapter: Adapter,
    backbone: Backbone,
    data: TrainData,
    metrics: Mapping[str, JSONObject],
    run: FinishedRun[TrainableAdapter],
    start: StoredVersion | None,
) -> Manifest:
    """Return what `task.json` says of an adapter: `run` gave it from `data`, beginning with `start`."""
    settings = run.trainable.settings
    return replace(
        bare_manifest(host, adapter, backbone, run.trainable.trained_parameters),
        method="head" if settings.method == "head" else "lora",
        data={split: _data_record(dataset) for split, dataset in data.splits.items()},
        metrics=dict(metrics),
        training={**settings.to_json(), "best_epoch": run.best_epoch, "seconds": round(run.seconds, 1)},
        parent=None if start is None else start.ref,
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


def store_adapter(
    destination: Destination,
    adapter: Adapter,
    backbone: Backbone,
    manifest: Manifest,
    *,
    dropout: float = 0.0,
    history: Sequence[JSONObject] = (),
) -> StoredVersion:
    """Write the artifact of `adapter` to `destination` and return the new version.

    dropout: that of its training; history: a record of each epoch.
    """
    config, model, head = stored_form(adapter, backbone, dropout)
    facts = CardFacts(
        name=destination.name,
        manifest=manifest,
        summary=adapter.spec.summary,
        recipe=adapter.format.recipe,
        weight_bytes=sum(tensor.nbytes for tensor in (*model.values(), *(head or {}).values())),
    )
    return destination.add(
        lambda folder: write_artifact(
            folder,
            manifest,
            adapter_config=config,
            adapter_model=model,
            head=head,
            card=render_card(facts),
            history=history,
        )
    )
