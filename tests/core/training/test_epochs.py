"""Epochs of a run: the best one, patience, callbacks, learning rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import TaskSpecError
from onetrunk.core.tasks import TaskSpec
from onetrunk.core.tasks.hookspecs import EpochEvent, StepEvent
from onetrunk.core.training.encoded_dataset import EncodedDataset
from onetrunk.core.training.run_state import TrainingCallback
from tests.core.training.short_runs import SHORT, run, same_weights, scored_by


def test_the_result_has_the_weights_of_the_best_epoch(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    shy = replace(spec, evaluate=scored_by(lambda logits: -abs(float(np.abs(logits).mean()) - 0.5)))
    trained = run(shy, dataset, bert, replace(SHORT, epochs=8, patience=0, lr=0.03))
    scores = [row["dev"]["accuracy"] for row in trained.history]
    assert trained.best_epoch == 1 + int(np.argmax(scores))
    assert trained.best_epoch < 8
    logits = trained.trainable.logits(dataset)
    assert shy.evaluate(dataset.examples, logits, ("neg", "pos"), {})["accuracy"] == max(scores)


def test_of_equal_epochs_the_first_is_the_best(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    trained = run(replace(spec, evaluate=scored_by(lambda _: 0.5)), dataset, bert, replace(SHORT, patience=0))
    assert trained.best_epoch == 1
    assert [row["best"] for row in trained.history] == [True, False, False, False]


@pytest.mark.parametrize(("patience", "epochs"), [(1, 2), (2, 3), (0, 6)])
def test_a_run_stops_when_its_patience_ends(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone, patience: int, epochs: int
) -> None:
    flat = replace(spec, evaluate=scored_by(lambda _: 0.5))
    assert len(run(flat, dataset, bert, replace(SHORT, epochs=6, patience=patience)).history) == epochs


def test_a_run_that_stops_early_is_the_start_of_the_whole_one(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    flat = replace(spec, evaluate=scored_by(lambda _: 0.5))
    short, whole = (run(flat, dataset, bert, replace(SHORT, patience=patience)) for patience in (1, 0))
    assert same_weights(short, whole)  # of both the first epoch is the best


def test_epochs_with_metric_zero_do_not_end_a_run_and_the_last_of_them_is_the_best(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    values = iter([0.0, None, 0.0, 0.0, 0.5, 0.25, 0.5])
    slow = replace(spec, evaluate=scored_by(lambda _: next(values)))
    trained = run(slow, dataset, bert, replace(SHORT, epochs=8, patience=2))
    assert [row["best"] for row in trained.history] == [True] * 5 + [False] * 2


def test_a_metric_that_is_not_finite_is_refused(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    with pytest.raises(
        TaskSpecError, match=r"evaluate returns a value that has the number nan, .* under 'accuracy'"
    ):
        run(replace(spec, evaluate=scored_by(lambda _: float("nan"))), dataset, bert, SHORT)


def test_an_undefined_metric_counts_as_zero(spec: TaskSpec, dataset: EncodedDataset, bert: Backbone) -> None:
    values = iter([None, 0.5, None, 0.25])  # as the f1 of a dev set without entities while none is predicted
    trained = run(replace(spec, evaluate=scored_by(lambda _: next(values))), dataset, bert, SHORT)
    assert trained.best_epoch == 2
    assert [row["dev"] for row in trained.history] == [{}, {"accuracy": 0.5}, {}, {"accuracy": 0.25}]


def test_the_callback_gets_every_step_and_every_epoch(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    steps, epochs = list[StepEvent](), list[EpochEvent]()
    trained = run(
        spec,
        dataset,
        bert,
        replace(SHORT, patience=0),
        callback=TrainingCallback(steps.append, epochs.append),
    )
    assert [event.step for event in steps] == list(range(1, steps[0].steps + 1))
    assert sum(event.tokens for event in steps) == 4 * sum(dataset.tokens)
    assert [event.loss for event in epochs] == [row["loss"] for row in trained.history]
    assert [event.epoch for event in epochs] == [1, 2, 3, 4]


def test_the_learning_rate_rises_then_falls_towards_zero(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    steps = list[StepEvent]()
    settings = replace(SHORT, patience=0, warmup=0.25)
    run(spec, dataset, bert, settings, callback=TrainingCallback(step=steps.append))
    rates = [event.lr for event in steps]
    peak = rates.index(max(rates))
    assert rates[peak] == pytest.approx(0.01)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < rates[-1] < 0.002
