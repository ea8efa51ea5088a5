"""The data of a training run, read and checked before training starts."""

from __future__ import annotations

import os
from collections.abc import Iterable
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
from onetrunk.core.tasks import Labels, Targets, TaskSpec
from onetrunk.core.tasks.guarded_calls import calling


@dataclass(frozen=True, slots=True)
class TrainData:
    """The checked splits of a run.

    labels: the labels of the adapter.
    held_out: whether dev was taken out of train because the user gave no dev file.
    """

    train: Dataset
    dev: Dataset
    test: Dataset | None
    labels: Labels
    held_out: bool

    @property
    def splits(self) -> dict[str, Dataset]:
        """Return the splits by name, without `test` if there is none."""
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
    """Read and check all splits.

    train_file: a file, `-` for standard input, or a folder with train, dev and test files.
    dev_file: without it, a stratified tenth of train is held out.
    seed: of the sample that is held out.
    labels: the labels of the adapter to start from; None to collect labels from train.
    Raises DataError, with file and line, for invalid data; TaskSpecError if the code of the task fails.
    """
    # Not Path.is_dir, which can raise: reading the file gives a better message.
    if train_file != "-" and os.path.isdir(train_file):
        splits = find_splits(train_file)
        train_file, dev_file, test_file = splits.train, dev_file or splits.dev, test_file or splits.test
    data = load_dataset(spec, train_file)
    check_any_missing(spec, data)  # before labels are collected from the examples
    held_out = dev_file is None
    parts = hold_out(data, seed=seed) if dev_file is None else (data, load_dataset(spec, dev_file))
    test = None if test_file is None else load_dataset(spec, test_file)
    known = _labels(spec, data) if labels is None else labels
    for dataset in parts:
        _check_any_label(dataset.source, check_targets(spec, dataset, known), known)
    if test is not None:
        check_targets(spec, test, known)
    return TrainData(parts[0], parts[1], test, known, held_out)


def _check_any_label(source: str, targets: Iterable[Targets], labels: Labels) -> None:
    """Raise DataError if no unit has a label, for example if all texts are `oos`. Every float target counts.

    Training learns nothing from such a train split, and such a dev split cannot select an epoch.
    """
    if not any(isinstance(target, float) or target >= 0 for own in targets for target in own):
        raise DataError(source, f"no row has one of the labels: {', '.join(labels[:20]) or 'none'}")


def _labels(spec: TaskSpec, data: Dataset) -> Labels:
    try:
        with calling(spec, "labels", passing=(ValueError,)):
            return spec.learn_labels(data.examples)
    except ValueError as error:
        raise DataError(data.source, str(error)) from error
