"""The data of a training run, read and checked before training starts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from onetrunk.core.data.dataset import Dataset, check_any_missing, check_targets, load_dataset
from onetrunk.core.data.notes import Note
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.data.splits import Splits, find_splits, hold_out
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import Labels, Targets, TaskSpec
from onetrunk.core.tasks.guarded_calls import calling

FEW_DEV_ROWS = 20
"""With fewer dev rows than this, a single example changes a metric by more than 5 points."""


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
    files = _with_folder(files)
    data = load_dataset(spec, files.train, options)
    check_any_missing(spec, data)  # before labels are collected from the examples
    held_out = files.dev is None
    parts = hold_out(data, seed=seed) if files.dev is None else (data, load_dataset(spec, files.dev, options))
    test = None if files.test is None else load_dataset(spec, files.test, options)
    known = _labels(spec, data) if labels is None else labels
    for dataset in parts:
        _check_any_label(dataset.source, check_targets(spec, dataset, known), known)
    if test is not None:
        check_targets(spec, test, known)
    read = (data, test) if held_out else (data, parts[1], test)
    notes = [note for own in read if own is not None for note in own.notes]
    if held_out:
        notes += _held_out_notes(data.source, *parts, seed)
    return TrainData(parts[0], parts[1], test, known, held_out, tuple(notes))


def _with_folder(files: Splits) -> Splits:
    """Return `files` with those of the folder `files.train`, if it is one."""
    train = files.train
    if not isinstance(train, str | Path) or train == "-" or not os.path.isdir(train):  # isdir never raises
        return files
    found = find_splits(train)
    dev = found.dev if files.dev is None else files.dev
    return Splits(found.train, dev, found.test if files.test is None else files.test)


def _held_out_notes(source: str, train: Dataset, dev: Dataset, seed: int) -> list[Note]:
    held, every = len(dev.examples), len(train.examples) + len(dev.examples)
    sample = f"{held} of {every} rows are held out as dev (a stratified tenth, seed {seed})"
    notes = [Note("held-out", f"no dev data given: {sample}", source, held)]
    if held < FEW_DEV_ROWS:
        doubt = "the choice of the best epoch and the dev metrics depend largely on chance"
        remedy = "give a larger dev file with --dev"
        rows = f"dev has only {held} rows, fewer than {FEW_DEV_ROWS}"
        notes.append(Note("few-dev-rows", f"{rows}: {doubt}; {remedy}", source, held))
    return notes


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
