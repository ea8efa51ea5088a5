"""Targets that are floats reach the loss as floats, and what is no target is told with its line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.data.dataset import Dataset, check_targets, content_sha256
from onetrunk.core.data.splits import hold_out
from onetrunk.core.data.training_data import TrainData
from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Example, TaskSpec
from onetrunk.core.tasks.hookspecs import hookimpl
from onetrunk.core.testing import check_task
from onetrunk.core.training.encoded_dataset import encode_dataset
from onetrunk.core.training.job import TrainJob, TrainResult
from onetrunk.core.training.pipeline import train_adapter
from onetrunk.core.training.settings import TrainSettings
from tests.stars import RECORDS, STARS, read, squared_error


def dataset(values: Sequence[Any]) -> Dataset:
    examples = [
        Example(f"film {line}", value, where=f"x.jsonl:{line}") for line, value in enumerate(values, 1)
    ]
    return Dataset(tuple(examples), "x.jsonl", "0" * 64)


def train(spec: TaskSpec, backbone: Backbone, folder: Path, **settings: Any) -> TrainResult:
    host = PluginHost.of(SimpleNamespace(tasks=hookimpl(lambda: [spec], specname="tasks"), __name__="own"))
    examples = tuple(map(read, RECORDS))
    data = Dataset(examples, "rows", content_sha256(examples))
    chosen = TrainSettings(epochs=4, lr=0.02, dropout=0.0, patience=0, **settings)
    splits = TrainData(data, data, None, ("stars",), held_out=False)
    return train_adapter(host, Store(folder), TrainJob("stars", "x", splits, chosen), backbone)


def test_a_regression_follows_the_contract() -> None:
    check_task(STARS, RECORDS)


def test_the_loss_is_given_floats_as_float32(bert: Backbone, tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def loss(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        seen.append(targets)
        return squared_error(logits, targets, weights)

    train(replace(STARS, loss=loss), bert, tmp_path)
    assert {each.dtype for each in seen} == {torch.float32}
    given = torch.cat(seen).unique()
    assert given.equal(torch.tensor([-0.7, 0.25, 0.5, 0.9]))


def test_the_loss_is_given_integers_as_int64(bert: Backbone) -> None:
    encoded = encode_dataset(STARS, bert, dataset([3, -1, np.int64(2)]).examples, ())
    assert encoded.target_tensor([2, 0]).equal(torch.tensor([2, 3]))
    assert encoded.target_tensor([]).dtype == torch.int64


@pytest.mark.parametrize("good", [0.5, 1])
@pytest.mark.parametrize("bad", [True, np.True_, float("nan"), float("inf"), -1e300, 2**70, "0.5", [0.5]])
def test_an_invalid_target_is_refused_with_its_line(good: float, bad: object) -> None:
    with pytest.raises(
        DataError, match=r"^x\.jsonl:2: the target .* is neither an integer of 64 bits nor a finite"
    ):
        check_targets(STARS, dataset([good, bad]), ())


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ([0.5, 1], "the target 1 is an int, but other targets are floats"),
        ([1, 0.5], "0.5 is a float, but other targets are ints"),
    ],
)
def test_integers_among_floats_are_refused_with_their_line(values: list[float], fault: str) -> None:
    with pytest.raises(DataError, match=rf"^x\.jsonl:2: .*{fault}; expected all integers or all floats"):
        check_targets(STARS, dataset(values), ())


def test_encoding_refuses_them_too(bert: Backbone) -> None:
    with pytest.raises(DataError, match=r"^x\.jsonl:2: the target 1 is an int, but other targets are floats"):
        encode_dataset(STARS, bert, dataset([0.5, 1]).examples, ())


def test_rows_with_floats_can_be_held_out() -> None:
    train, dev = hold_out(dataset([row / 7 for row in range(20)]))
    assert (len(train.examples), len(dev.examples)) == (18, 2)


def test_floats_have_no_class_weights(bert: Backbone, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="class-weights balanced counts how often each label occurs"):
        train(STARS, bert, tmp_path, class_weights="balanced")
