"""The files of the splits in a folder."""

from __future__ import annotations

import os
from pathlib import Path

from onetrunk.core.data.dataset import Splits
from onetrunk.core.data.readers import SUFFIXES, split_suffix
from onetrunk.core.errors import DataError

SPLIT_NAMES = {
    "train": ("train",),
    "dev": ("dev", "valid", "validation", "val"),
    "test": ("test",),
}
"""The file names of each split in a folder, in lower case and without suffix."""


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
    """Return the test file of `folder`, or its dev file without one. Raises DataError as `find_splits` does."""
    file = _split_file(folder, "test") or _split_file(folder, "dev")
    if file is None:
        raise _missing(folder, "test or dev")
    return file


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
