"""Train one adapter from Python, in one call."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict, Unpack

from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import DEFAULT_BACKBONE, Backbone
from onetrunk.core.data.lines import DataSource
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.data.splits import Splits
from onetrunk.core.data.training_data import read_train_data
from onetrunk.core.errors import UsageError
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.training.full_finetuning import train_full
from onetrunk.core.training.job import TrainJob, TrainResult
from onetrunk.core.training.pipeline import train_adapter
from onetrunk.core.training.settings import TrainSettings


class TrainOptions(TypedDict, total=False):
    """Options of `train`.

    backbone: a loaded `Backbone`, or a Hub id or folder to load; by default the default backbone.
    start: reference of a stored adapter of the same task, which is trained further.
    settings: epochs, learning rates and so on.
    reading: how to read the data files.
    store: the adapter store, by default the user's.
    host: the plugins, by default those that are installed.
    """

    backbone: Backbone | str | Path
    start: str
    settings: TrainSettings
    reading: ReadOptions
    store: Store
    host: PluginHost


def train(
    task: str,
    train: DataSource,
    *,
    dev: DataSource | None = None,
    test: DataSource | None = None,
    name: str | None = None,
    **options: Unpack[TrainOptions],
) -> TrainResult:
    """Train an adapter for `task` and store it as the next version of `name`, as `adapters train` does.

    train: the training data: a file, a folder with train, dev and test files, a pandas DataFrame, a
        `datasets.Dataset`, or mappings.
    dev: the data on which the best epoch is chosen; by default, a tenth of the training data is held out.
    test: data for a last evaluation.
    name: name of the adapter in the store, by default the task.
    options: see `TrainOptions`.
    Notes on the data are in `notes` of the result; nothing is printed.
    Raises UnknownTask, DataError with file and line for invalid data, UsageError for settings that do not fit, and
    the exception that ended the run; then nothing is stored.
    """
    host, store = options.get("host") or PluginHost.discover(), options.get("store") or Store()
    settings = options.get("settings") or TrainSettings()
    spec, start = host.task(task), options.get("start")
    stored = None if start is None else store.resolve(start)
    manifest = None if stored is None else stored.read().manifest
    if manifest is not None and manifest.task != task:
        raise UsageError(
            f"start={start!r} is an adapter for task {manifest.task}, not for {task}; choose another one"
        )
    labels = None if manifest is None else manifest.labels
    reading = options.get("reading") or AS_WRITTEN
    data = read_train_data(spec, Splits(train, dev, test), seed=settings.seed, labels=labels, options=reading)
    backbone = options.get("backbone", DEFAULT_BACKBONE)
    if not isinstance(backbone, Backbone):
        backbone = Backbone.load(backbone, dtype=settings.precision)
    job = TrainJob(task, name or task, data, settings, stored)
    if settings.method == "full":
        return train_full(host, job, backbone)
    return train_adapter(host, store, job, backbone)
