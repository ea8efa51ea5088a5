"""Splits of a data set: the files in a folder, and a sample held out as dev."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from onetrunk.core.data.dataset import Dataset, canonical, content_sha256
from onetrunk.core.data.lines import DataSource
from onetrunk.core.data.readers import SUFFIXES, split_suffix
from onetrunk.core.data.stratified import draw_stratified
from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.tasks import Example

SPLIT_NAMES = {
    "train": ("train",),
    "dev": ("dev", "valid", "validation", "val"),
    "test": ("test",),
}
"""The file names of each split in a folder, in lower case and without suffix."""


@dataclass(frozen=True, slots=True)
class Splits:
    """The data of a training run, files or Python objects; `dev` and `test` are None if there is no such split."""

    train: DataSource
    dev: DataSource | None = None
    test: DataSource | None = None


def hold_out(dataset: Dataset, fraction: float = 0.1, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Split `dataset` into (train, dev) with about `fraction` of the examples in dev, each part in file order.

    The sample is stratified by label, or by the set of labels if a target is a sequence; see `draw_stratified`.
    Train keeps at least one example with each label. The result is the same on every platform.
    Raises UsageError unless 0 < fraction < 1; DataError if no example can be held out.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"the fraction to hold out is {fraction}; expected a number between 0 and 1")
    chosen = draw_stratified([_labels_of(example.target) for example in dataset.examples], fraction, seed)
    if not chosen:
        few = "too few rows to hold out a dev split: each label needs at least two"
        raise DataError(dataset.source, f"{few}; add rows, or give a dev file")
    share = f"{100 * fraction:g} % held out, seed {seed}"
    train = [example for row, example in enumerate(dataset.examples) if row not in chosen]
    dev = [example for row, example in enumerate(dataset.examples) if row in chosen]
    return (
        _part(dataset, train, f"{dataset.source} (without the {share})"),
        _part(dataset, dev, f"{dataset.source} (the {share})"),
    )


def find_splits(folder: str | Path) -> Splits:
    """Return the data files of `folder`: a name of `SPLIT_NAMES` and a suffix of `SUFFIXES`, also with `.gz`.

    Raises DataError if `folder` is not a folder, has no train file, or has two files for one split.
    """
    if not os.path.isdir(folder):
        raise DataError(
            str(folder), "no such folder; expected one with train.*, and optionally dev.* and test.*"
        )
    train, dev, test = (_split_file(folder, split) for split in ("train", "dev", "test"))
    if train is None:
        raise _missing(folder, "train")
    return Splits(train, dev, test)


def find_evaluation(folder: str | Path) -> Path:
    """Return the test file of `folder`, or its dev file if it has no test file.

    Raises DataError if `folder` cannot be read, has neither file, or has two files for one split.
    """
    file = _split_file(folder, "test") or _split_file(folder, "dev")
    if file is None:
        raise _missing(folder, "test or dev")
    return file


def _part(dataset: Dataset, examples: Sequence[Example], source: str) -> Dataset:
    return replace(
        dataset, examples=tuple(examples), source=source, sha256=content_sha256(examples), notes=()
    )


def _labels_of(target: object) -> tuple[str, ...]:
    """Return the distinct labels of a target, sorted; () for None and for a float."""
    if target is None or isinstance(target, float):
        return ()
    if isinstance(target, str) or not isinstance(target, Sequence | set | frozenset):
        return (canonical(target),)
    return tuple(sorted({canonical(label) for label in target}))


def _files(folder: str | Path) -> list[Path]:
    """Return the files in `folder`, sorted. Raises DataError if it cannot be read."""
    try:
        return sorted(file for file in Path(folder).iterdir() if file.is_file())
    except OSError as fault:
        raise DataError(
            str(folder), f"the folder cannot be read: {fault.strerror}; check its permissions"
        ) from fault


def _missing(folder: str | Path, split: str) -> DataError:
    expected = f"{split} with one of the suffixes {', '.join(SUFFIXES)}"
    found = ", ".join(file.name for file in _files(folder)[:8]) or "no file"
    return DataError(str(folder), f"has no {split} file; expected {expected}; found {found}")


def _split_file(folder: str | Path, split: str) -> Path | None:
    found = []
    for file in _files(folder):
        stem, suffix = split_suffix(file.name)
        if stem in SPLIT_NAMES[split] and suffix in SUFFIXES:
            found.append(file)
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise DataError(
            str(folder), f"has {len(found)} files for the {split} split: {names}; keep one, or name the file"
        )
    return found[0] if found else None
