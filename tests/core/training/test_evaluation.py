"""What calibrates and measures a run: tried out before its first epoch, the same in each epoch and at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.data.dataset import Dataset, content_sha256
from onetrunk.core.data.training_data import TrainData
from onetrunk.core.errors import TaskSpecError
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Example, JSONObject, Labels, Record, TaskSpec
from onetrunk.core.tasks.hookspecs import StepEvent, hookimpl
from onetrunk.core.training.epoch_choice import FEW_DEV
from onetrunk.core.training.job import TrainJob, TrainResult
from onetrunk.core.training.pipeline import train_adapter
from onetrunk.core.training.run_state import TrainingCallback
from onetrunk.core.training.settings import TrainSettings

Train = Callable[..., TrainResult]


@pytest.fixture
def train(bert: Backbone, records: dict[str, list[Record]], tmp_path: Path) -> Train:
    """Return (steps that were taken, task, parts of it that are replaced) → the result of a short real run."""

    def call(steps: list[StepEvent], task: str, **parts: Any) -> TrainResult:
        spec: TaskSpec = replace(PluginHost.discover().task(task), **parts)
        host = PluginHost.of(
            SimpleNamespace(tasks=hookimpl(lambda: [spec], specname="tasks"), __name__="own")
        )
        examples = tuple(map(spec.read, records[task]))
        data = Dataset(examples, "rows", content_sha256(examples))
        splits = TrainData(data, data, None, spec.learn_labels(examples), held_out=False)
        settings = TrainSettings(epochs=2, lr=0.01, rank=4, batch_tokens=64)
        job = TrainJob(task, "x", splits, settings, callback=TrainingCallback(step=steps.append))
        return train_adapter(host, Store(tmp_path), job, bert)

    return call


def divides_by_nothing(*arguments: object) -> JSONObject:
    return {"threshold": 1 / 0}


def not_a_number(*arguments: object) -> JSONObject:
    return {"sound": 1.0, "threshold": float("nan")}


def numpys(*arguments: object) -> JSONObject:
    return {"accuracy": 1.0, "macro_f1": np.float32(0.5)}


@pytest.mark.parametrize(
    ("part", "function", "fault"),
    [
        (
            "calibrate",
            divides_by_nothing,
            r"calibrate raises ZeroDivisionError: division by zero \(.*\.py:\d+\)",
        ),
        (
            "calibrate",
            not_a_number,
            "calibrate returns a value that has the number nan, .*, under 'threshold'",
        ),
        ("calibrate", lambda *_: None, "calibrate returns None, expected a JSON object"),
        ("evaluate", divides_by_nothing, "evaluate raises ZeroDivisionError"),
        (
            "evaluate",
            numpys,
            "evaluate returns a value that has a float32, which is not JSON, under 'macro_f1'",
        ),
    ],
)
def test_a_fault_in_calibrate_or_evaluate_is_found_before_the_first_step(
    train: Train, part: str, function: Callable[..., Any], fault: str
) -> None:
    steps: list[StepEvent] = []
    with pytest.raises(
        TaskSpecError,
        match=f"task 'intent': {fault}.*; found before training, in an evaluation with random logits",
    ):
        train(steps, "intent", **{part: function})
    assert steps == []


@pytest.mark.parametrize("task", ["ner", "intent"])
def test_what_is_tried_has_the_rows_and_columns_that_training_has(train: Train, task: str) -> None:
    shapes: list[list[tuple[int, ...]]] = []

    def calibrate(examples: Sequence[Example], logits: Sequence[np.ndarray], labels: Labels) -> JSONObject:
        shapes.append([rows.shape for rows in logits])
        return {}

    train([], task, calibrate=calibrate)
    tried, *measured = shapes
    assert measured == [tried, tried]


def test_a_task_that_fails_only_on_what_was_learnt_is_named(train: Train) -> None:
    calls: list[object] = []

    def calibrate(*arguments: object) -> JSONObject:
        calls.append(arguments)
        return {} if len(calls) == 1 else divides_by_nothing()

    steps: list[StepEvent] = []
    with pytest.raises(
        TaskSpecError, match=r"^task 'intent': calibrate raises ZeroDivisionError: .*\.py:\d+\)$"
    ):
        train(steps, "intent", calibrate=calibrate)
    assert steps


def test_each_epoch_is_judged_with_the_decoder_that_would_be_stored(train: Train) -> None:
    """With a threshold that nothing reaches until it is calibrated, as a multi-label task may have it."""

    def calibrate(examples: Sequence[Example], logits: Sequence[np.ndarray], labels: Labels) -> JSONObject:
        return {"threshold": float(np.median(np.concatenate(logits)))}

    def evaluate(
        examples: Sequence[Example], logits: Sequence[np.ndarray], labels: Labels, settings: JSONObject
    ) -> JSONObject:
        return {"accuracy": float((np.concatenate(logits) > settings.get("threshold", 1e9)).mean())}

    result = train([], "intent", calibrate=calibrate, evaluate=evaluate)
    assert all(row["dev"]["accuracy"] > 0.3 for row in result.run.history)


def test_what_is_stored_has_the_decoder_and_the_metrics_of_the_best_epoch(train: Train) -> None:
    counted = iter(range(100))

    def calibrate(*arguments: object) -> JSONObject:
        return {"call": next(counted)}

    def evaluate(
        examples: Sequence[Example], logits: Sequence[np.ndarray], labels: Labels, settings: JSONObject
    ) -> JSONObject:
        return {"accuracy": 1 / settings["call"] if settings["call"] else 0.5}

    result = train([], "intent", calibrate=calibrate, evaluate=evaluate, support=lambda _: FEW_DEV)
    assert result.run.best_epoch == 1
    assert (result.decoder, result.metrics) == ({"call": 1}, {"dev": {"accuracy": 1.0}})
