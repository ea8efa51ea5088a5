"""`find_splits` and `find_evaluation`: the files of a folder, found by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from onetrunk.core.data.splits import Splits, find_evaluation, find_splits
from onetrunk.core.errors import DataError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("dev", ["dev.csv", "valid.jsonl", "validation.json", "VAL.TSV"])
def test_the_files_of_a_folder_are_found_by_name(tmp_path: Path, dev: str) -> None:
    touch(tmp_path, "train.jsonl.gz", dev, "test.conll", "oos_train.jsonl", "README.md", "train.pdf")
    expected = Splits(tmp_path / "train.jsonl.gz", tmp_path / dev, tmp_path / "test.conll")
    assert find_splits(tmp_path) == expected


def test_dev_and_test_may_be_missing(tmp_path: Path) -> None:
    assert find_splits(touch(tmp_path, "train.csv")) == Splits(tmp_path / "train.csv", None, None)


def test_a_folder_without_train_is_refused_with_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no train file; expected train .*\.jsonl, .*found dev\.csv"):
        find_splits(touch(tmp_path, "dev.csv"))


def test_a_folder_is_evaluated_on_test_or_else_on_dev_and_never_on_train(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no test or dev file; expected .*found train\.csv"):
        find_evaluation(touch(tmp_path, "train.csv"))
    assert find_evaluation(touch(tmp_path, "valid.csv")) == tmp_path / "valid.csv"
    assert find_evaluation(touch(tmp_path, "test.conll.gz")) == tmp_path / "test.conll.gz"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train.csv", "train.jsonl"), "has 2 files for the train split: train.csv, train.jsonl; keep one"),
        (("train.csv", "dev.csv", "val.csv"), "has 2 files for the dev split: dev.csv, val.csv; keep one"),
    ],
)
def test_two_files_for_one_split_are_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_splits(touch(tmp_path, *names))


def test_an_unreadable_folder_is_reported(forbidden: Path) -> None:
    for find in (find_splits, find_evaluation):
        with pytest.raises(DataError, match="forbidden: the folder cannot be read: Permission denied; check"):
            find(forbidden)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        find_splits(tmp_path / "missing")
