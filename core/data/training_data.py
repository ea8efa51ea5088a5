"""The data of a training run, read and checked before training starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from onetrunk.adapters.errors import first_few
from onetrunk.core.data.checks import check_rows, check_splits, missing_parent_labels
from onetrunk.core.data.dataset import (
    Dataset,
    check_any_missing,
    check_targets,
    load_dataset,
    unknown_label_notes,
)
from onetrunk.core.data.lines import DataSource
from onetrunk.core.data.notes import Note, refuse_doubtful
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.data.splits import Splits, find_splits, hold_out
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import Labels, Targets, TaskSpec
from onetrunk.core.tasks.guarded_calls import calling


@dataclass(frozen=True, slots=True)
class TrainData:
    """The checked splits of a run.

    labels: the labels of the adapter.
    held_out: whether dev was taken out of train because the user gave no dev file.
    notes: on all splits.
    """

    train: Dataset
    dev: Dataset
    test: Dataset | None
    labels: Labels
    held_out: bool
    notes: tuple[Note, ...] = ()

    @property
    def splits(self) -> dict[str, Dataset]:
        """Return the splits by name, without `test` if there is none."""
        named = {"train": self.train, "dev": self.dev, "test": self.test}
        return {name: dataset for name, dataset in named.items() if dataset is not None}


def read_train_data(
    spec: TaskSpec,
    files: Splits,
    *,
    seed: int = 0,
    labels: Labels | None = None,
    options: ReadOptions = AS_WRITTEN,
) -> TrainData:
    """Read and check all splits.

    files: each is a file, `-` for standard input, or Python objects; train can also be a folder with train, dev and
        test files.
        Without a dev file, a stratified tenth of train is held out.
    seed: of the sample that is held out.
    labels: the labels of the adapter to start from; None to collect labels from train.
    options: how to read the files.
    Raises DataError, with file and line, for invalid data; TaskSpecError if the code of the task fails.
    """
    given = {split: load_dataset(spec, file, options) for split, file in split_files(files).items()}
    data = train_data_of(spec, given, seed, labels)
    if options.strict:
        refuse_doubtful(data.notes)
    return data


def train_data_of(
    spec: TaskSpec, given: Mapping[str, Dataset], seed: int = 0, labels: Labels | None = None
) -> TrainData:
    """Check the splits `given`, by name, together, and hold a dev split out if there is none.

    seed, labels, errors: see `read_train_data`.
    """
    data = given["train"]
    check_any_missing(spec, data)  # before labels are collected from the examples
    known = _labels(spec, data) if labels is None else labels
    notes = [note for dataset in given.values() for note in dataset.notes]
    notes += _check_targets(spec, given, known)
    notes += [note for dataset in given.values() for note in check_rows(dataset, spec.level)]
    notes += check_splits(given, spec.level)
    if labels is not None:
        notes += missing_parent_labels(data, labels, spec.level)
    train, dev, held_out = data, given.get("dev"), False
    if dev is None:
        (train, dev), held_out = hold_out(data, seed=seed), True
        for part in (train, dev):
            _check_any_label(part.source, check_targets(spec, part, known).targets, known)
        notes += _held_out_notes(data.source, train, dev, seed)
    return TrainData(train, dev, given.get("test"), known, held_out, tuple(notes))


def _check_targets(spec: TaskSpec, given: Mapping[str, Dataset], labels: Labels) -> Iterator[Note]:
    """Check the targets of the splits. Yield notes on labels of dev and test that are not in `labels`."""
    for split, dataset in given.items():
        checked = check_targets(spec, dataset, labels, allow_unknown=split != "train")
        if split != "test":
            _check_any_label(dataset.source, checked.targets, labels)
        yield from unknown_label_notes(spec, dataset, checked.unknown)


def split_files(files: Splits) -> dict[str, DataSource]:
    """Return the data by split, without splits that have none; for a folder under `train`, its files."""
    named = {"train": files.train, "dev": files.dev, "test": files.test}
    train = files.train
    if isinstance(train, str | Path) and train != "-" and os.path.isdir(train):  # isdir never raises
        found = find_splits(train)
        dev = found.dev if files.dev is None else files.dev
        named = {"train": found.train, "dev": dev, "test": found.test if files.test is None else files.test}
    return {split: data for split, data in named.items() if data is not None}


def _held_out_notes(source: str, train: Dataset, dev: Dataset, seed: int) -> list[Note]:
    held, every = len(dev.examples), len(train.examples) + len(dev.examples)
    sample = f"{held} of {every} rows are held out as dev (a stratified tenth, seed {seed})"
    return [Note("held-out", f"no dev data given: {sample}", source, held)]


def _check_any_label(source: str, targets: Iterable[Targets], labels: Labels) -> None:
    """Raise DataError if no unit has a label, for example if all texts are `oos`. Every float target counts.

    Training learns nothing from such a train split, and such a dev split cannot select an epoch.
    """
    if not any(isinstance(target, float) or target >= 0 for own in targets for target in own):
        raise DataError(source, f"no row has one of the labels: {first_few(labels, 20) or 'none'}")


def _labels(spec: TaskSpec, data: Dataset) -> Labels:
    try:
        with calling(spec, "labels", passing=(ValueError,)):
            return spec.learn_labels(data.examples)
    except ValueError as error:
        raise DataError(data.source, str(error)) from error
