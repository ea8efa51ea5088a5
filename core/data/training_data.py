"""The data of a training: read and checked whole, before anything is trained."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from onetrunk.core.data.dataset import (
    Dataset,
    check_any_missing,
    check_targets,
    find_splits,
    hold_out,
    load_dataset,
)
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import Labels, TaskSpec
from onetrunk.core.tasks.guarded_calls import calling, targets_of


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
    Raises DataError with file and line, TaskSpecError for a fault of the task itself.
    """
    if train_file != "-" and os.path.isdir(train_file):  # unlike Path.is_dir it leaves faults to the reading
        splits = find_splits(train_file)
        train_file, dev_file, test_file = splits.train, dev_file or splits.dev, test_file or splits.test
    data = load_dataset(spec, train_file)
    check_any_missing(spec, data)  # before anything else is said of its labels
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
    """Raise DataError where no unit has a label (all rows `oos`, say): nothing to learn, no epoch to choose.

    A float is no label, and each is something to learn.
    """
    targets = (target for example in dataset.examples for target in targets_of(spec, example, labels))
    if not any(isinstance(target, float) or target >= 0 for target in targets):
        raise DataError(dataset.source, f"no row has one of the labels: {', '.join(labels[:20]) or 'none'}")


def _labels(spec: TaskSpec, data: Dataset) -> Labels:
    try:
        with calling(spec, "labels", passing=(ValueError,)):
            return spec.learn_labels(data.examples)
    except ValueError as error:
        raise DataError(data.source, str(error)) from error
