"""Epochs of a run: the best one, patience, callbacks, learning rate."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.data.notes import Note
from onetrunk.core.errors import TaskSpecError
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Record, TaskSpec
from onetrunk.core.tasks.hookspecs import EpochEvent, StepEvent
from onetrunk.core.training.encoded_dataset import EncodedDataset
from onetrunk.core.training.epoch_choice import FEW_DEV, FEW_TO_STOP, EpochChoice
from onetrunk.core.training.run_state import FinishedRun, TrainingCallback
from onetrunk.core.training.trainable import TrainableAdapter
from tests.core.training.short_runs import SHORT, run, same_weights, scored_by


@pytest.fixture(scope="module")
def many(spec: TaskSpec) -> TaskSpec:
    """A task whose dev set counts as large, so that the metric selects the epoch."""
    return replace(spec, support=lambda _: FEW_TO_STOP)


def test_the_result_has_the_weights_of_the_best_epoch(
    many: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    shy = replace(many, evaluate=scored_by(lambda logits: -abs(float(np.abs(logits).mean()) - 0.5)))
    trained = run(shy, dataset, bert, replace(SHORT, epochs=8, patience=0, lr=0.03))
    scores = [row["dev"]["accuracy"] for row in trained.history]
    assert trained.best_epoch == 1 + int(np.argmax(scores))
    assert trained.best_epoch < 8
    logits = trained.trainable.logits(dataset)
    assert shy.evaluate(dataset.examples, logits, ("neg", "pos"), {})["accuracy"] == max(scores)


def test_of_epochs_with_equal_metrics_the_one_with_the_lowest_loss_on_dev_is_the_best(
    many: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    trained = run(replace(many, evaluate=scored_by(lambda _: 0.5)), dataset, bert, replace(SHORT, patience=0))
    losses = [row["dev_loss"] for row in trained.history]
    assert trained.best_epoch == 1 + losses.index(min(losses))
    assert trained.selected_by == "metric"


@pytest.mark.parametrize(("patience", "epochs"), [(1, 2), (2, 3), (0, 6), (None, 4)])
def test_a_run_stops_when_its_patience_ends(
    many: TaskSpec, dataset: EncodedDataset, bert: Backbone, patience: int | None, epochs: int
) -> None:
    values = iter([0.5, *[0.25] * 5])
    flat = replace(many, evaluate=scored_by(lambda _: next(values)))
    assert len(run(flat, dataset, bert, replace(SHORT, epochs=6, patience=patience)).history) == epochs


def test_a_run_that_stops_early_is_the_start_of_the_whole_one(
    many: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    def trained(patience: int) -> FinishedRun[TrainableAdapter]:
        values = iter([0.5, *[0.25] * 3])
        falling = replace(many, evaluate=scored_by(lambda _: next(values)))
        return run(falling, dataset, bert, replace(SHORT, patience=patience))

    assert same_weights(trained(1), trained(0))  # of both the first epoch is the best


def test_epochs_with_metric_zero_do_not_end_a_run_and_the_last_of_them_is_the_best(
    many: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    values = iter([0.0, None, 0.0, 0.0, 0.5, 0.25, 0.25])
    slow = replace(many, evaluate=scored_by(lambda _: next(values)))
    trained = run(slow, dataset, bert, replace(SHORT, epochs=8, patience=2))
    assert [row["best"] for row in trained.history] == [True] * 5 + [False] * 2


def test_a_metric_that_is_not_finite_is_refused(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    with pytest.raises(
        TaskSpecError, match=r"evaluate returns a value that has the number nan, .* under 'accuracy'"
    ):
        run(replace(spec, evaluate=scored_by(lambda _: float("nan"))), dataset, bert, SHORT)


def test_an_undefined_metric_counts_as_zero(many: TaskSpec, dataset: EncodedDataset, bert: Backbone) -> None:
    values = iter([None, 0.5, None, 0.25])  # as the f1 of a dev set without entities while none is predicted
    trained = run(replace(many, evaluate=scored_by(lambda _: next(values))), dataset, bert, SHORT)
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


# A small dev set


def test_on_few_dev_rows_the_lowest_loss_selects_and_no_run_stops_early(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    values = iter([1.0, *[0.5] * 7])
    trained = run(
        replace(spec, evaluate=scored_by(lambda _: next(values))), dataset, bert, replace(SHORT, epochs=8)
    )
    losses = [row["dev_loss"] for row in trained.history]
    assert (trained.selected_by, trained.patience, len(losses)) == ("loss", 0, 8)
    assert trained.best_epoch == 1 + losses.index(min(losses)) > 1


def test_the_loss_on_dev_is_the_mean_over_its_rows(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    trained = run(spec, dataset, bert, SHORT)
    logits = torch.from_numpy(np.concatenate(trained.trainable.logits(dataset)))
    gold = torch.tensor([own[0] for own in dataset.targets])
    expected = torch.nn.functional.cross_entropy(logits, gold).item()
    assert trained.dev.loss == pytest.approx(expected, abs=1e-5)


def test_a_run_with_few_dev_rows_says_how_its_epoch_is_selected(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    seen: list[tuple[str, Note]] = []
    trained = run(spec, dataset, bert, SHORT, callback=TrainingCallback(note=lambda *each: seen.append(each)))
    (note,) = trained.notes
    assert seen == [("x", note)]
    assert (note.kind, note.count) == ("few-dev-rows", len(dataset.examples))
    assert "the epoch with the lowest loss on dev is kept, and training does not stop early" in note.message


def test_a_patience_of_the_user_holds_on_few_dev_rows(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    flat = replace(spec, loss=lambda logits, *_: logits.sum() * 0)  # every loss on dev is 0
    rising = EpochChoice(10, 2)
    assert [rising.offer(0.5, loss) for loss in (1.0, 2.0, 3.0)] == [True, False, False]
    assert rising.exhausted
    assert run(flat, dataset, bert, replace(SHORT, patience=2)).best_epoch == 3  # equal ones: the later


def test_on_dev_without_anything_that_the_metric_counts_the_last_epoch_is_kept(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    trained = run(replace(spec, support=lambda _: 0), dataset, bert, SHORT)
    assert (trained.best_epoch, trained.selected_by) == (4, "last")
    assert "the last epoch is kept" in trained.notes[0].message


def test_a_dev_set_of_ner_counts_its_entities() -> None:
    ner = PluginHost.discover().task("ner")
    rows: list[Record] = [
        {"words": ["Ada", "King", "in", "Rome"], "tags": ["B-PER", "I-PER", "O", "B-LOC"]},
        {"text": "no"},
    ]
    assert ner.support is not None
    assert [ner.support(ner.read(row)) for row in rows] == [2, 0]


@given(
    st.integers(FEW_DEV, 500),
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 0.98]), st.sampled_from([0.1, 1.0, 2.0])), min_size=1),
)
def test_the_selected_epoch_has_the_best_metric_then_the_lowest_loss_and_is_then_the_latest(
    support: int, epochs: list[tuple[float, float]]
) -> None:
    choice = EpochChoice(support, 0)
    for metric, loss in epochs:
        choice.offer(metric, loss)
    best = max(metric for metric, _ in epochs)
    kept = [i for i, (metric, _) in enumerate(epochs, 1) if metric == best]
    if best:
        lowest = min(epochs[i - 1][1] for i in kept)
        kept = [i for i in kept if epochs[i - 1][1] == lowest]
    assert choice.best == kept[-1]


@given(st.integers(1, FEW_DEV - 1), st.lists(st.sampled_from([0.1, 1.0, 2.0, math.inf]), min_size=1))
def test_on_few_rows_the_selected_epoch_has_the_lowest_loss_and_is_the_latest_of_equal_ones(
    support: int, losses: list[float]
) -> None:
    choice = EpochChoice(support, None)
    for loss in losses:
        choice.offer(0.0, loss)
    assert choice.best == max(i for i, loss in enumerate(losses, 1) if loss == min(losses))
    assert not choice.exhausted
