"""What a plugin's code does wrong in training, evaluation and prediction is told with its task, and where."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.data.dataset import Dataset, content_sha256
from onetrunk.core.data.training_data import TrainData
from onetrunk.core.errors import PredictionFailed, TaskSpecError
from onetrunk.core.inference.predictor import OneTrunk
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Example, HeadContext, JSONObject, Labels, Rows, TaskSpec
from onetrunk.core.tasks.hookspecs import hookimpl
from onetrunk.core.tasks.word_splitter import split_words
from onetrunk.core.testing import check_task
from onetrunk.core.training.job import TrainJob, TrainResult
from onetrunk.core.training.pipeline import train_adapter
from onetrunk.core.training.settings import TrainSettings
from tests.stars import RECORDS, STARS, read

HERE = re.escape(__file__)


def host_of(spec: TaskSpec) -> PluginHost:
    return PluginHost.of(SimpleNamespace(tasks=hookimpl(lambda: [spec], specname="tasks"), __name__="own"))


def train(spec: TaskSpec, backbone: Backbone, folder: Path) -> TrainResult:
    examples = tuple(map(read, RECORDS))
    data = Dataset(examples, "rows", content_sha256(examples))
    splits = TrainData(data, data, None, ("stars",), held_out=False)
    settings = TrainSettings(epochs=2, rank=2)
    return train_adapter(host_of(spec), Store(folder), TrainJob("stars", "x", splits, settings), backbone)


@pytest.fixture(params=["fp32", "bf16"])
def backbone(request: pytest.FixtureRequest, bert_folder: Path) -> Backbone:
    return Backbone.load(bert_folder, device="cpu", dtype=request.param)


class FirstToken(nn.Module):
    """A head without a cast; logits: maps (hidden, rows) to what the head gives."""

    def __init__(self, width: int, logits: Callable[[Tensor, Rows], Any]) -> None:
        super().__init__()
        self.linear, self.logits = nn.Linear(width, 1), logits

    def forward(self, hidden: Tensor, rows: Rows) -> Any:
        return self.linear(self.logits(hidden, rows))


def with_head(logits: Callable[[Tensor, Rows], Any]) -> TaskSpec:
    def make_head(context: HeadContext) -> nn.Module:
        return FirstToken(context.hidden_size, logits)

    return replace(STARS, make_head=make_head)


def first(hidden: Tensor, rows: Rows) -> Tensor:
    return hidden[rows.offsets[:-1]]


def test_a_head_needs_no_cast_in_any_precision(backbone: Backbone, tmp_path: Path) -> None:
    assert train(with_head(first), backbone, tmp_path).stored is not None


def test_a_head_that_raises_is_told_with_its_task_and_its_line(backbone: Backbone, tmp_path: Path) -> None:
    narrow = with_head(lambda hidden, rows: first(hidden, rows)[:, 1:])
    fault = rf"^task 'stars': the head raises RuntimeError: mat1 and mat2 .* \({HERE}:\d+\)"
    with pytest.raises(TaskSpecError, match=fault):
        train(narrow, backbone, tmp_path)


def test_a_head_with_a_row_a_token_is_told(bert: Backbone, tmp_path: Path) -> None:
    fault = r"the head returns logits \(\d+, 1\), expected a tensor with one row for each of 1 units"
    with pytest.raises(TaskSpecError, match=fault):
        train(with_head(lambda hidden, _: hidden), bert, tmp_path)


@pytest.mark.parametrize(
    ("loss", "fault"),
    [
        (lambda *_: 1 / 0, rf"loss raises ZeroDivisionError: division by zero \({HERE}:\d+\); found before "),
        (
            lambda logits, *_: logits[:, 0],
            "loss returns tensor.*, expected a scalar tensor that depends on the",
        ),
        (
            lambda *_: torch.tensor(1.0),
            r"loss returns tensor\(1\.\), expected a scalar tensor that depends on the",
        ),
        (lambda *_: 1.0, "loss returns 1.0, expected a scalar tensor"),
    ],
)
def test_a_loss_that_raises_or_is_no_loss_is_told(
    bert: Backbone, tmp_path: Path, loss: Callable[..., Any], fault: str
) -> None:
    with pytest.raises(TaskSpecError, match=f"(?s)^task 'stars': {fault}"):
        train(replace(STARS, loss=loss), bert, tmp_path)


def test_what_makes_no_head_is_told(bert: Backbone, tmp_path: Path) -> None:
    with pytest.raises(
        TaskSpecError, match=r"^task 'stars': make_head returns 7, expected a torch\.nn\.Module$"
    ):
        train(replace(STARS, make_head=lambda _: 7), bert, tmp_path)  # type: ignore[arg-type, return-value]


def test_the_kit_trains_in_every_precision(tmp_path: Path) -> None:
    check_task(STARS, RECORDS, folder=tmp_path)
    assert [Store(tmp_path / "store").resolve(name).version for name in ("fp32", "bf16")] == [1, 1]


# Prediction


def split(text: str) -> tuple[tuple[int, int], ...]:
    if "boom" in text:
        raise KeyError("boom")
    return split_words(text)


def decode(example: Example, logits: np.ndarray, labels: Labels, settings: JSONObject) -> JSONObject:
    split(example.text)
    return {"stars": float(logits[0, 0])}


@pytest.fixture
def fragile(bert: Backbone, tmp_path: Path) -> OneTrunk:
    """A trunk with two adapters of one weight, the second of which fails on texts with `boom`."""
    train(STARS, bert, tmp_path)
    trunk = OneTrunk(bert, store=Store(tmp_path), host=host_of(replace(STARS, decode=decode)))
    trunk.load("x")
    return trunk


def test_a_decoder_that_raises_is_told_with_its_text_after_the_answers_before_it(fragile: OneTrunk) -> None:
    answers = fragile.predict_stream(["a film", "a book", "boom " * 30, "good"], ["x"], chunk=2)
    assert [next(answers)[0].text, next(answers)[0].text] == ["a film", "a book"]
    fault = (
        r"^text 3: adapter x@1 fails on '(boom ){12}…': task 'stars': decode raises KeyError: 'boom' "
        rf"\({HERE}:\d+\)$"
    )
    with pytest.raises(PredictionFailed, match=fault) as caught:
        next(answers)
    assert (caught.value.index, caught.value.adapter) == (2, "x@1")


def test_a_split_that_raises_is_told_with_its_text(
    bert: Backbone, tmp_path: Path, train_tiny: Callable[..., TrainResult]
) -> None:
    train_tiny(Store(tmp_path), "ner", bert)
    ner = replace(PluginHost.discover().task("ner"), split=split)
    trunk = OneTrunk(bert, store=Store(tmp_path), host=host_of(ner))
    trunk.load("ner")
    with pytest.raises(
        PredictionFailed, match=r"^text 2: adapter ner@1 fails on 'boom': task 'ner': split rai"
    ):
        trunk.predict(["ada", "boom"], ["ner"])
    bad = Dataset((Example("boom", (), where="x.conll:7"),), "x.conll", "0" * 64)
    with pytest.raises(TaskSpecError, match=r"^task 'ner': .* raises KeyError: 'boom' .* at x\.conll:7$"):
        trunk.evaluate("ner", bad)
