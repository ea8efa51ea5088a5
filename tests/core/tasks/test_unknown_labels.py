"""Dev and test data with labels that the adapter lacks: the metrics count such rows, types and words as missed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from onetrunk.core.tasks import IGNORE, Example, JSONObject, Labels, UnknownLabel
from onetrunk.core.tasks.unknown_labels import known_targets, task_metrics
from onetrunk.plugins import intent, ner, sentiment

LABELS = ("bad", "good")


def logits(*values: float) -> np.ndarray:
    return np.array([values], dtype=np.float32)


def examples(*labels: str) -> list[Example]:
    return [Example(f"text {row}", label) for row, label in enumerate(labels)]


def test_a_text_with_an_unknown_label_counts_as_missed() -> None:
    rows = [logits(1, 0), logits(0, 1), logits(0, 1), logits(0, 1)]
    data = examples("bad", "good", "odd", "odd")
    metrics = task_metrics(sentiment.SPEC, data, rows, LABELS, {}, {2: ("odd",), 3: ("odd",)})
    assert metrics["accuracy"] == 0.5
    assert metrics["per_label"]["odd"] == {"precision": None, "recall": 0.0, "f1": 0.0, "support": 2}
    assert metrics["per_label"]["good"]["precision"] == pytest.approx(1 / 3)
    assert metrics["confusion"]["labels"] == ["bad", "good", "odd"]
    assert metrics["confusion"]["rows"][2] == [0, 2, 0]


def test_without_unknown_labels_the_metrics_are_those_of_the_task() -> None:
    data, rows = examples("bad", "good"), [logits(1, 0), logits(1, 0)]
    assert task_metrics(sentiment.SPEC, data, rows, LABELS, {}, {}) == sentiment.SPEC.evaluate(
        data, rows, LABELS, {}
    )


def test_an_unknown_intent_does_not_change_the_scores_of_the_threshold() -> None:
    data, rows = examples("bad", "odd", "oos"), [logits(9, 0), logits(9, 0), logits(0, 0)]
    settings: JSONObject = {"threshold": 2.0, "score": intent.SCORE, "rule": "x"}
    metrics = task_metrics(intent.SPEC, data, rows, LABELS, settings, {1: ("odd",)})
    assert metrics["accuracy"] == 0.5
    assert metrics["in_scope_accuracy"] == 0.5
    assert (metrics["oos_recall"], metrics["oos_precision"]) == (1.0, 1.0)
    padded = np.pad(rows[0], ((0, 0), (0, 1)), constant_values=-math.inf)
    assert intent.in_scope_score(padded) == pytest.approx(intent.in_scope_score(rows[0]))


def test_entities_of_an_unknown_type_count_as_missed() -> None:
    labels = ("O", "B-PER", "I-PER")
    example = ner.SPEC.read({"words": ["Ada", "in", "New", "York"], "tags": ["B-PER", "O", "B-LOC", "I-LOC"]})
    rows = np.array([[0, 5, 0], [5, 0, 0], [5, 0, 0], [0, 5, 0]], dtype=np.float32)
    metrics = task_metrics(ner.SPEC, [example], [rows], labels, {}, {0: ("B-LOC", "I-LOC")})
    assert (metrics["precision"], metrics["recall"], metrics["f1"]) == (0.5, 0.5, 0.5)
    assert metrics["per_type"]["LOC"] == {"precision": None, "recall": 0.0, "f1": 0.0, "support": 1}


def test_units_with_an_unknown_label_have_no_target() -> None:
    example = ner.SPEC.read({"words": ["Ada", "in", "Rome"], "tags": ["B-PER", "O", "B-LOC"]})
    targets, unknown = known_targets(ner.SPEC, example, ("O", "B-PER", "I-PER"))
    assert targets == (1, 0, IGNORE)
    assert unknown == ("B-LOC", "I-LOC")


def test_of_one_target_per_label_those_of_unknown_labels_are_left_out() -> None:
    def topics(example: Example, labels: Labels) -> list[int]:
        if unknown := set(example.target) - set(labels):
            raise UnknownLabel(sorted(unknown)[0], labels)
        return [int(label in example.target) for label in labels]

    spec = replace(sentiment.SPEC, targets=topics)
    found = known_targets(spec, Example("x", ("good", "odd", "strange")), LABELS)
    assert found == ((0, 1), ("odd", "strange"))


def test_a_text_out_of_scope_has_no_unknown_label() -> None:
    assert known_targets(intent.SPEC, Example("x", "oos"), LABELS) == ((intent.OUT,), ())


def test_a_task_that_refuses_its_own_label_ends_in_its_error() -> None:
    def targets(example: Example, labels: Labels) -> Sequence[int]:
        raise UnknownLabel("odd", labels)

    spec = replace(sentiment.SPEC, targets=targets)
    with pytest.raises(UnknownLabel, match="unknown label 'odd'; known: bad, good, odd"):
        known_targets(spec, Example("x", "odd"), LABELS)


def test_of_thousands_of_known_labels_the_message_names_twenty() -> None:
    known = [f"l{row}" for row in range(5000)]
    assert str(UnknownLabel("odd", known)).endswith("l18, l19 and 4980 more")
