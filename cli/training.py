"""Parts of the commands that train: the adapter to continue from, the data, the run, and its result as JSON.

Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.format.manifest import Manifest
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.cli.number_format import headline, scalar_metrics
from onetrunk.cli.output import print_notes
from onetrunk.cli.progress import TrainingProgress
from onetrunk.cli.sharing import resolve_version
from onetrunk.core.data.notes import Note
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.errors import UsageError
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import JSONObject
from onetrunk.core.tasks.guarded_calls import configured
from onetrunk.core.training.train_plan import PlannedAdapter

if TYPE_CHECKING:
    from onetrunk.core.backbones.backbone import Backbone
    from onetrunk.core.training.job import TrainJob, TrainResult

_INHERITED = ("method", "pooling", "rank", "alpha", "targets", "layers")
"""Settings that are taken from the adapter to continue from."""

Parent = tuple[StoredVersion, Manifest]
"""The adapter to continue training from."""


def parent_adapter(host: PluginHost, adapter: PlannedAdapter, backbone: str | None) -> Parent | None:
    """Return the adapter that `adapter` continues from, None if it is a new one.

    backbone: the choice of the user, None for that of the adapter.
    Raises UnknownAdapter. Raises UsageError if the adapter to continue from has another task, or if the user set
    one of the settings that are taken from it.
    """
    if adapter.start is None:
        return None
    stored = resolve_version(host, adapter.start, backbone)
    manifest = read_manifest(stored.path)
    if manifest.task != adapter.task:
        raise UsageError(
            f"{stored.ref} is an adapter for task {manifest.task}, not for {adapter.task}; "
            "choose another one for --from"
        )
    for name in _INHERITED:
        if name in adapter.chosen:
            raise UsageError(
                f"--{name} cannot be combined with --from: the setting of {stored.ref} is kept; leave one out"
            )
    return stored, manifest


def prepare_job(
    host: PluginHost,
    adapter: PlannedAdapter,
    parent: Parent | None,
    options: ReadOptions = AS_WRITTEN,
    prefix: str = "",
) -> TrainJob:
    """Read and check the data of an adapter, print the notes on it, and return the job.

    options: how to read the data files.
    prefix: what each printed line starts with.
    Raises UnknownTask and the errors of `read_train_data`.
    """
    from onetrunk.core.data.splits import Splits
    from onetrunk.core.data.training_data import read_train_data

    stored, manifest = parent or (None, None)
    spec, settings = configured(host.task(adapter.task), adapter.settings.options), adapter.settings
    labels = None if manifest is None else manifest.labels
    files = Splits(adapter.train, adapter.dev, adapter.test)
    data = read_train_data(spec, files, seed=settings.seed, labels=labels, options=options)
    print_notes(data.notes, prefix)
    from onetrunk.core.training.job import TrainJob

    return TrainJob(adapter.task, adapter.name, data, settings, stored)


def with_notes(job: TrainJob, notes: Sequence[Note]) -> TrainJob:
    """Print notes, and return the job with them, so that its result has them."""
    print_notes(notes)
    return replace(job, data=replace(job.data, notes=(*job.data.notes, *notes)))


def train_job(host: PluginHost, job: TrainJob, backbone: Backbone) -> TrainResult:
    """Train one adapter and store it; progress and notes go to stderr. Raises the exception that ended the run."""
    from onetrunk.core.training.full_finetuning import train_full
    from onetrunk.core.training.pipeline import train_adapter
    from onetrunk.core.training.run_state import TrainingCallback

    with TrainingProgress({job.name: host.task(job.task).primary}) as progress:
        job = replace(job, callback=TrainingCallback(progress.step, progress.epoch, progress.note))
        if job.settings.method == "full":
            result = train_full(host, job, backbone)
        else:
            result = train_adapter(host, Store(), job, backbone)
    print_new_notes(job, result)
    return result


def print_new_notes(job: TrainJob, result: TrainResult, prefix: str = "") -> None:
    """Print the notes of `result` that neither `prepare_job` nor the progress of the run has printed."""
    known = (*job.data.notes, *result.run.notes)
    print_notes((note for note in result.notes if note not in known), prefix)


def previous_metrics(result: TrainResult) -> dict[str, JSONObject]:
    """Return the metrics of the version that the name meant before, by split and reference, for a table."""
    if (own := result.promotion) is None or own.previous is None:
        return {}
    return {f"{split}, {own.previous}": metrics for split, metrics in own.metrics.items()}


def _previous(result: TrainResult) -> dict[str, Any] | None:
    if (own := result.promotion) is None or own.previous is None:
        return None
    by_split = {split: scalar_metrics(metrics) for split, metrics in own.metrics.items()}
    return {"adapter": own.previous, "dev": by_split.get("dev"), "test": by_split.get("test")}


def record_of(result: TrainResult, seconds: float) -> dict[str, Any]:
    """Return the result of a training run as JSON. seconds: wall time of the command."""
    by_split = {split: scalar_metrics(metrics) for split, metrics in result.metrics.items()}
    parent = result.parent
    return {
        "adapter": result.stored and result.stored.ref,
        "promoted": result.promotion is not None and result.promotion.promoted,
        "previous": _previous(result),
        "metrics": headline(result.metrics)[1],
        "dev": by_split["dev"],
        "test": by_split.get("test"),
        "seconds": round(seconds, 3),
        "tokens_per_second": round(result.run.tokens_per_second, 1),
        "parameters": result.trained,
        "share": result.share,
        "best_epoch": result.run.best_epoch,
        "selected_by": result.run.selected_by,
        "all_rows": result.run.all_rows,
        "epochs": len(result.run.history),
        "loss": result.loss,
        "bytes": result.bytes,
        "parent": parent and {"adapter": parent.ref, "dev": scalar_metrics(parent.dev)},
        "notes": [note.to_json() for note in result.notes],
    }
