"""Build the manifest (`task.json`) of an adapter, and store the adapter as an artifact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from onetrunk.adapters.card import CardFacts, render_card
from onetrunk.adapters.format.artifact import ArtifactContent, write_artifact
from onetrunk.adapters.format.manifest import (
    SCHEMA,
    BackboneRecord,
    DataRecord,
    Manifest,
    Parameters,
    PluginRecord,
)
from onetrunk.adapters.store.staging import writing
from onetrunk.adapters.store.store import Store, StoredVersion, always
from onetrunk.adapters.store.version_index import Origin
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.device import name_of
from onetrunk.core.data.dataset import Dataset
from onetrunk.core.data.notes import Note
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.inference.adapter_io import record_probe, stored_form
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import JSONObject
from onetrunk.core.training.run_state import FinishedRun


@dataclass(frozen=True, slots=True)
class Destination:
    """The name in a store under which an adapter becomes the next version.

    host: the plugins, which are notified of the new version.
    origin: where the adapter was pulled from; None for an adapter that was trained or imported here.
    check: called with the existing versions of `name` before the new one is added. An exception that it raises
        stops the addition (see `Store.add`).
    promote: called with the current version of `name`; tells whether the new version becomes the current one.
    """

    host: PluginHost
    store: Store
    name: str
    origin: Origin | None = None
    check: Callable[[Sequence[StoredVersion]], object] | None = None
    promote: Callable[[StoredVersion | None], bool] = always

    def add(self, write: Callable[[Path], object]) -> StoredVersion:
        """Add a new version and notify the plugins. write: called with an empty folder, to write the files."""
        stored = self.store.add(self.name, write, self.origin, self.check, self.promote)
        self.host.notify("adapter_stored", name=stored.name, version=stored.version, path=stored.path)
        return stored


def bare_manifest(host: PluginHost, adapter: Adapter, backbone: Backbone, trained: int) -> Manifest:
    """Return the manifest of an adapter, in which the data, the metrics and the training are left empty.

    trained: the number of trained parameters.
    """
    spec = adapter.spec
    distribution, plugin_version = host.origin(spec.name)
    return Manifest(
        onetrunk=version("onetrunk"),
        task=spec.name,
        plugin=PluginRecord(distribution=distribution, version=plugin_version),
        level=spec.level,
        word_splitter=spec.splitter or None,
        labels=adapter.labels,
        pooling=adapter.pooling if spec.level == "text" else None,
        head="file" if adapter.format.task_type is None else "peft",
        method="lora",
        recipe=adapter.format.recipe,
        settings=adapter.settings,
        backbone=BackboneRecord(
            name=backbone.public_name,
            revision=backbone.revision,
            fingerprint=backbone.fingerprint,
            tokenizer=backbone.tokenizer_fingerprint,
            style=backbone.family.style,
            hidden_size=backbone.hidden_size,
            layers=backbone.layers,
        ),
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


def data_record(dataset: Dataset, notes: Sequence[Note] = ()) -> DataRecord:
    """Return the record of one data set in `task.json`. A file is recorded without the path of its folder.

    notes: on the encoded data set. Their messages are recorded, without their places.
    """
    source = Path(dataset.source.partition(" (")[0]).name or dataset.source
    messages = tuple(note.message for note in notes)
    return DataRecord(sha256=dataset.sha256, rows=len(dataset.examples), source=source, notes=messages)


def training_record(run: FinishedRun[Any], backbone: Backbone) -> JSONObject:
    """Return the settings of a finished run as they were used, and how it ended."""
    trainable = run.trainable
    return {
        **trainable.settings.to_json(),
        "pooling": trainable.pooling,
        "precision": name_of(backbone.dtype),
        "threads": torch.get_num_threads() if backbone.device.type == "cpu" else None,
        "patience": run.patience,
        "best_epoch": run.best_epoch,
        "selected_by": run.selected_by,
        "all_rows": run.all_rows,
        "epochs_run": len(run.history),
        "seconds": round(run.seconds, 1),
    }


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

    dropout, history: see `artifact_content`.
    """
    content = artifact_content(destination.name, adapter, backbone, manifest, dropout, history)
    return store_content(destination, manifest, content)


def artifact_content(
    name: str,
    adapter: Adapter,
    backbone: Backbone,
    manifest: Manifest,
    dropout: float = 0.0,
    history: Sequence[JSONObject] = (),
) -> ArtifactContent:
    """Return the content of the files of an artifact.

    name: of the adapter, for its card.
    dropout: the probability of dropout in training.
    history: one record per epoch.
    """
    config, model, head = stored_form(adapter, backbone, dropout)
    facts = CardFacts(
        name=name,
        manifest=manifest,
        summary=adapter.spec.summary,
        weight_bytes=sum(tensor.nbytes for tensor in (*model.values(), *(head or {}).values())),
    )
    return ArtifactContent(config, model, head, render_card(facts), history)


def store_content(destination: Destination, manifest: Manifest, content: ArtifactContent) -> StoredVersion:
    """Write an artifact to `destination` and return the new version. Raises StoreError if it cannot be written."""

    def write(folder: Path) -> None:
        with writing(destination.store.root):
            write_artifact(folder, manifest, content)

    return destination.add(write)
