"""Errors cross process boundaries with their type, message and attributes."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from onetrunk.adapters import errors as store_errors
from onetrunk.core import errors as core_errors
from onetrunk.core.errors import OneTrunkError, UnknownAdapter
from onetrunk.core.serving.engine import errors as serving_errors
from onetrunk.core.serving.engine.errors import QueueFull, UnknownName


def kinds(root: type[OneTrunkError]) -> Iterator[type[OneTrunkError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from kinds(kind)


@pytest.mark.parametrize(
    "error",
    [
        QueueFull(9, 8, 3),
        UnknownName("a", ["b"]),
        UnknownAdapter("a", ["b"], Path("store")),
        store_errors.HashMismatch(Path("store"), "file", "0" * 64, "1" * 64),
        core_errors.DataError("file:1", "is none", ["also"]),
        core_errors.TrainingDiverged(1, 2, "lower the rate"),
        serving_errors.OverTime(30, 5),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_keeps_its_type_message_and_attributes_across_processes(error: OneTrunkError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_no_error_class_overrides_reduce() -> None:
    assert [
        kind.__name__ for kind in kinds(OneTrunkError) if kind.__reduce__ is not OneTrunkError.__reduce__
    ] == []
