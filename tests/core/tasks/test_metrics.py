from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score  # type: ignore[import-untyped]

from onetrunk.core.tasks import metrics

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)
GOLD, PREDICTED = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 0]


def test_confusion_counts_gold_in_rows_and_predictions_in_columns() -> None:
    table = metrics.confusion(GOLD, PREDICTED, ("a", "b", "c"))
    assert table == {"labels": ["a", "b", "c"], "rows": [[2, 1, 0], [1, 1, 0], [1, 0, 0]]}


def test_the_confusion_of_many_labels_is_a_list_of_the_most_frequent_wrong_pairs() -> None:
    labels = tuple(f"l{i}" for i in range(1100))
    gold = [*range(1100), *range(1, 1100), 3, 3]
    predicted = [*range(1100), *([0] * 1099), 0, 5]
    pairs = metrics.confusion(gold, predicted, labels)["pairs"]
    assert pairs[:3] == [["l3", "l0", 2], ["l1", "l0", 1], ["l2", "l0", 1]]
    assert len(pairs) == metrics.MOST_PAIRS


def test_per_label_is_bounded_to_the_labels_with_the_largest_support() -> None:
    labels = tuple(f"l{i}" for i in range(metrics.MOST_LABELS + 10))
    gold = list(range(10, len(labels)))
    assert list(metrics.per_label(gold, gold, labels)) == list(labels[10:])


def test_per_label_figures_are_those_computed_by_hand() -> None:
    table = metrics.per_label(GOLD, PREDICTED, ("a", "b", "c"))
    assert table == {
        "a": {"precision": 2 / 4, "recall": 2 / 3, "f1": pytest.approx(4 / 7), "support": 3},
        "b": {"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "support": 2},
        "c": {"precision": None, "recall": 0.0, "f1": 0.0, "support": 1},
    }


@settings(deadline=None)
@given(PAIRS)
def test_accuracy_macro_f1_and_confusion_equal_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    gold, predicted = [right for right, _ in pairs], [guess for _, guess in pairs]
    table = metrics.confusion(gold, predicted, tuple("abcde"))["rows"]
    assert table == confusion_matrix(gold, predicted, labels=range(5)).tolist()
    assert metrics.accuracy(gold, predicted) == pytest.approx(accuracy_score(gold, predicted))
    assert metrics.macro_f1(gold, predicted) == pytest.approx(
        f1_score(gold, predicted, average="macro", zero_division=0)
    )


def test_a_label_that_never_occurs_does_not_lower_macro_f1() -> None:
    assert metrics.macro_f1([0, 99], [0, 99]) == 1.0


def test_what_divides_by_nothing_has_no_value() -> None:
    assert metrics.accuracy([], []) is None
    assert metrics.macro_f1([], []) is None
    assert metrics.precision_recall_f1(0, 0, 2) == {"precision": None, "recall": 0.0, "f1": 0.0}
    assert metrics.precision_recall_f1(0, 2, 0) == {"precision": 0.0, "recall": None, "f1": 0.0}
    assert metrics.precision_recall_f1(0, 0, 0) == {"precision": None, "recall": None, "f1": None}


def test_lists_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 gold labels, but 1 predicted"):
        metrics.confusion([0, 1], [0], ("a", "b"))
    with pytest.raises(ValueError, match="shorter"):
        metrics.accuracy([0, 1], [0])


@settings(deadline=None)
@given(
    arrays(
        np.float32, st.tuples(st.integers(0, 4), st.integers(1, 6)), elements=st.floats(-1e4, 1e4, width=32)
    )
)
def test_softmax_gives_probabilities_that_sum_to_one_and_agree_with_its_logarithm(logits: np.ndarray) -> None:
    probabilities = metrics.softmax(logits)
    assert probabilities.shape == logits.shape
    assert probabilities.sum(axis=-1) == pytest.approx(np.ones(len(logits)))
    assert np.exp(metrics.log_softmax(logits)) == pytest.approx(probabilities)
