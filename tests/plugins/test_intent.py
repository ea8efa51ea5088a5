from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional as F

from onetrunk.core.errors import UsageError
from onetrunk.core.tasks import IGNORE, Example
from onetrunk.core.tasks.guarded_calls import configured
from onetrunk.core.testing import check_task
from onetrunk.plugins.intent import OUT, SCORE, SPEC, calibrate, in_scope_score, tasks

LABELS = ("book", "cancel", "pay")


def sure_of(label: str, height: float) -> np.ndarray:
    """Logits that prefer `label`, the more the higher."""
    return np.array([[height if name == label else 0.0 for name in LABELS]], dtype=np.float32)


def score(height: float) -> float:
    return float(in_scope_score(sure_of("book", height))[0])


def threshold_at(height: float) -> dict[str, Any]:
    return {"threshold": score(height), "score": SCORE, "rule": "set by hand"}


def test_the_task_follows_the_contract() -> None:
    texts = [("book a table", "book"), ("cancel my flight", "cancel"), ("the great london", "oos")]
    check_task(SPEC, [{"text": text, "label": label} for text, label in texts * 4])
    assert list(tasks()) == [SPEC]


def test_oos_is_never_a_label() -> None:
    examples = [Example("x", label) for label in ("pay", "oos", "book", None, "pay")]
    assert SPEC.learn_labels(examples) == ("book", "pay")


def test_one_intent_beside_oos_is_refused() -> None:
    with pytest.raises(
        ValueError, match="at least two intents besides 'oos' in the training data, found: pay"
    ):
        SPEC.learn_labels([Example("x", "pay"), Example("y", "oos")])


def test_targets_are_label_indices_and_out_for_oos() -> None:
    assert [SPEC.targets(Example("x", label), LABELS)[0] for label in ("pay", "oos", "book")] == [2, OUT, 0]


@pytest.mark.parametrize(("label", "message"), [("odd", "unknown label 'odd'"), (None, "has no label")])
def test_an_unknown_or_missing_intent_is_refused(label: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SPEC.targets(Example("x", label), LABELS)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5])])
def test_without_oos_rows_the_loss_is_cross_entropy(weights: torch.Tensor | None) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(4, 3), torch.tensor([0, 2, IGNORE, 1])
    expected = F.cross_entropy(logits, targets, weights, ignore_index=IGNORE)
    torch.testing.assert_close(SPEC.loss(logits, targets, weights), expected)


def test_an_oos_row_adds_the_cross_entropy_to_the_uniform_distribution() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 3), torch.tensor([0, OUT, IGNORE, 1, OUT])
    aims = torch.stack([torch.eye(3)[0], torch.full((3,), 1 / 3), torch.eye(3)[1], torch.full((3,), 1 / 3)])
    expected = F.cross_entropy(logits[[0, 1, 3, 4]], aims)
    torch.testing.assert_close(SPEC.loss(logits, targets, None), expected)


def test_the_loss_of_oos_rows_alone_is_least_where_all_intents_are_equally_likely() -> None:
    logits = torch.full((2, 3), 4.0, requires_grad=True)
    loss = SPEC.loss(logits, torch.tensor([OUT, OUT]), None)
    loss.backward()
    assert loss.item() == pytest.approx(np.log(3))
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6


def test_a_batch_of_ignored_rows_has_a_loss_of_zero() -> None:
    assert SPEC.loss(torch.randn(2, 3), torch.tensor([IGNORE, IGNORE]), None).item() == 0.0


@settings(deadline=None)
@given(arrays(np.float32, (4, 3), elements=st.floats(-20, 20, width=16)), st.integers(-20, 20))
def test_the_in_scope_score_ignores_a_constant_added_to_all_logits(logits: np.ndarray, shift: int) -> None:
    assert in_scope_score(logits + shift) == pytest.approx(in_scope_score(logits), abs=1e-4)
    assert (in_scope_score(logits) >= np.log(3) - 1e-6).all()


def dev(*rows: tuple[str, float]) -> tuple[list[Example], list[np.ndarray]]:
    """Examples and logits: a gold intent, predicted rightly, or `oos` predicted as `book`, each with a height."""
    examples = [Example("x", label) for label, _ in rows]
    return examples, [sure_of("book" if label == "oos" else label, height) for label, height in rows]


def test_where_oos_rows_stand_apart_the_threshold_rejects_them_and_nothing_else() -> None:
    examples, logits = dev(*[("pay", 6.0 + i / 100) for i in range(100)], ("oos", 1.0), ("oos", 2.0))
    found = calibrate(examples, logits, LABELS)
    assert found["threshold"] == pytest.approx((score(2.0) + score(6.0)) / 2)
    figures = SPEC.evaluate(examples, logits, LABELS, found)
    assert (figures["in_scope_accuracy"], figures["oos_recall"], figures["oos_precision"]) == (1.0, 1.0, 1.0)


def test_the_threshold_costs_at_most_two_points_of_in_scope_accuracy() -> None:
    heights = [1.0, 2.0, 3.0, *[6.0 + i / 100 for i in range(97)]]
    examples, logits = dev(*[("pay", height) for height in heights], ("oos", 0.5), ("oos", 2.5), ("oos", 3.5))
    figures = SPEC.evaluate(examples, logits, LABELS, calibrate(examples, logits, LABELS))
    assert figures["in_scope_accuracy"] == 0.98
    assert figures["oos_recall"] == pytest.approx(2 / 3)
    assert figures["oos_precision"] == pytest.approx(2 / 4)


def test_in_scope_rows_that_are_wrong_anyway_cost_nothing_when_rejected() -> None:
    examples, logits = dev(*[("pay", 6.0)] * 50, ("oos", 2.0))
    wrong = [(Example("x", "cancel"), sure_of("pay", 1.0))] * 10
    examples, logits = examples + [e for e, _ in wrong], logits + [rows for _, rows in wrong]
    figures = SPEC.evaluate(examples, logits, LABELS, calibrate(examples, logits, LABELS))
    assert figures["oos_recall"] == 1.0
    assert figures["in_scope_accuracy"] == figures["accuracy"] == pytest.approx(50 / 60)


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 10, width=16), min_size=50, max_size=120),
    st.lists(st.floats(0, 10, width=16), min_size=1, max_size=20),
)
def test_calibration_never_costs_more_than_two_points_on_dev(
    inside: list[float], outside: list[float]
) -> None:
    examples, logits = dev(*[("pay", height) for height in inside], *[("oos", height) for height in outside])
    figures = SPEC.evaluate(examples, logits, LABELS, calibrate(examples, logits, LABELS))
    assert figures["in_scope_accuracy"] >= figures["accuracy"] - 0.02 - 1e-12


@given(st.lists(st.floats(0, 10, width=16), max_size=120))
def test_without_oos_rows_in_dev_there_is_no_threshold_and_a_note_says_so(heights: list[float]) -> None:
    found = calibrate(*dev(*[("pay", height) for height in heights]), LABELS)
    assert set(found) == {"note"}
    assert found["note"].startswith("no text will be answered 'oos': dev has no rows with the label 'oos';")


@given(st.lists(st.floats(0, 10, width=16), max_size=49), st.integers(1, 5))
def test_below_fifty_in_scope_rows_in_dev_there_is_no_threshold_and_a_note_says_so(
    heights: list[float], outside: int
) -> None:
    found = calibrate(*dev(*[("pay", height) for height in heights], *[("oos", 1.0)] * outside), LABELS)
    assert set(found) == {"note"}
    assert f"dev has {len(heights)} rows in scope and {outside} with the label 'oos'" in found["note"]


def test_the_option_oos_off_gives_no_threshold_and_no_note() -> None:
    assert configured(SPEC, {"oos": "off"}).calibrate is None
    assert configured(SPEC, {"oos": "auto"}) == configured(SPEC, {}) == SPEC


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"oos": "on"}, r"task 'intent': the option 'oos' is 'on'; expected auto or off"),
        ({"margin": "1"}, r"task 'intent': unknown option 'margin'; known: oos"),
    ],
)
def test_an_invalid_option_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        configured(SPEC, options)


def test_a_dev_set_where_every_intent_is_wrong_still_gives_a_threshold() -> None:
    examples, logits = (
        [Example("x", "pay")] * 50 + [Example("y", "oos")],
        [sure_of("book", 3.0)] * 50 + [sure_of("book", 1.0)],
    )
    assert calibrate(examples, logits, LABELS)["threshold"] == pytest.approx((score(1.0) + score(3.0)) / 2)


@pytest.mark.parametrize(
    ("height", "label", "in_scope"), [(2.0, "oos", False), (3.0, "pay", True), (4.0, "pay", True)]
)
def test_a_text_below_the_threshold_is_oos_and_one_at_it_is_not(
    height: float, label: str, in_scope: bool
) -> None:
    prediction = SPEC.decode(Example("x"), sure_of("pay", height), LABELS, threshold_at(3.0))
    assert (prediction["label"], prediction["in_scope"]) == (label, in_scope)
    if in_scope:
        assert prediction["score"] == prediction["scores"]["pay"]
        assert "nearest" not in prediction


@given(st.floats(0, 20), st.floats(0, 20))
def test_the_score_of_an_oos_answer_is_its_own_and_the_nearest_intent_has_its_name(
    height: float, threshold: float
) -> None:
    prediction = SPEC.decode(Example("x"), sure_of("pay", height), LABELS, threshold_at(threshold))
    assume(not prediction["in_scope"])
    assert prediction["label"] == "oos"
    assert 0.5 <= prediction["score"] <= 1
    assert prediction["score"] == pytest.approx(1 / (1 + np.exp(score(height) - score(threshold))))
    nearest = prediction["nearest"]
    assert nearest["score"] == prediction["scores"][nearest["label"]] == max(prediction["scores"].values())


def test_scores_name_all_intents_from_the_best_down() -> None:
    logits = np.log(np.array([[2.0, 1.0, 5.0]], dtype=np.float32))
    prediction = SPEC.decode(Example("x"), logits, LABELS, {})
    assert list(prediction["scores"]) == ["pay", "book", "cancel"]
    assert prediction["scores"] == pytest.approx({"pay": 5 / 8, "book": 2 / 8, "cancel": 1 / 8})


def test_a_threshold_of_another_score_is_refused() -> None:
    other = {"threshold": 0.5, "score": "max_softmax", "rule": "old"}
    with pytest.raises(ValueError, match="is for the score 'max_softmax', but this plugin computes"):
        SPEC.decode(Example("x"), sure_of("pay", 1.0), LABELS, other)


@settings(deadline=None)
@given(arrays(np.float32, (1, 3), elements=st.floats(-100, 100, width=32)))
def test_probabilities_sum_to_one_and_the_first_is_the_score(logits: np.ndarray) -> None:
    prediction = json.loads(json.dumps(SPEC.decode(Example("x"), logits, LABELS, threshold_at(2.0))))
    assert sum(prediction["scores"].values()) == pytest.approx(1)
    best = prediction if prediction["in_scope"] else prediction["nearest"]
    assert best["score"] == max(prediction["scores"].values())


MIXED = dev(("book", 5.0), ("pay", 1.0), ("oos", 1.0), ("oos", 5.0))


def test_figures_of_a_mixed_set_are_those_computed_by_hand() -> None:
    examples, logits = [*MIXED[0], Example("x", "cancel")], [*MIXED[1], sure_of("pay", 1.0)]
    figures = SPEC.evaluate(examples, logits, LABELS, threshold_at(3.0))
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert figures["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert figures["in_scope_accuracy"] == pytest.approx(1 / 3)
    assert figures["oos_recall"] == 1 / 2
    assert figures["oos_precision"] == pytest.approx(1 / 3)
    assert figures["oos_rows"] == 2
    assert set(figures["per_label"]) == set(LABELS)


def test_without_settings_the_figures_of_the_threshold_are_absent() -> None:
    assert set(SPEC.evaluate(*MIXED, LABELS, {})) == {"accuracy", "macro_f1", "oos_rows", "per_label"}


def test_without_oos_rows_their_recall_and_precision_are_null() -> None:
    figures = json.loads(json.dumps(SPEC.evaluate(*dev(("pay", 5.0)), LABELS, threshold_at(3.0))))
    assert (figures["oos_recall"], figures["oos_precision"], figures["oos_rows"]) == (None, None, 0)


def test_without_in_scope_rows_their_figures_are_null_and_no_key_is_missing() -> None:
    figures = json.loads(json.dumps(SPEC.evaluate(*dev(("oos", 1.0)), LABELS, threshold_at(3.0))))
    assert [figures[key] for key in ("accuracy", "macro_f1", "in_scope_accuracy")] == [None] * 3
    assert (figures["oos_recall"], figures["oos_precision"], figures["oos_rows"]) == (1.0, 1.0, 1)
    assert figures["per_label"]["pay"] == {"precision": None, "recall": None, "f1": None, "support": 0}


def test_oos_precision_is_null_where_no_text_is_rejected() -> None:
    figures = SPEC.evaluate(*dev(("pay", 5.0), ("oos", 5.0)), LABELS, threshold_at(3.0))
    assert (figures["oos_recall"], figures["oos_precision"]) == (0.0, None)


@settings(deadline=None)
@given(arrays(np.float32, (6, 3), elements=st.sampled_from([0.0, 1.0, 4.0])))
def test_evaluate_finds_the_predictions_of_decode_right(rows: np.ndarray) -> None:
    units = [row[None] for row in rows]
    examples = [
        Example("x", SPEC.decode(Example("x"), unit, LABELS, threshold_at(2.0))["label"]) for unit in units
    ]
    figures = SPEC.evaluate(examples, units, LABELS, threshold_at(2.0))
    outside = sum(example.target == "oos" for example in examples)
    assert figures["in_scope_accuracy"] == (1.0 if outside < len(examples) else None)
    assert figures["oos_recall"] == (1.0 if outside else None)
