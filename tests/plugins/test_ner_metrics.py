from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from onetrunk.core.tasks import Example
from onetrunk.core.tasks.iob2 import to_iob2
from onetrunk.plugins.ner import SPEC

LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
TAGS = st.lists(st.sampled_from(LABELS), max_size=12)


def logits_of(tags: Sequence[str], height: float = 9.0) -> np.ndarray:
    """Logits that prefer the tags, one row a word."""
    rows = np.zeros((len(tags), len(LABELS)), dtype=np.float32)
    rows[np.arange(len(tags)), [LABELS.index(tag) for tag in tags]] = height
    return rows


def test_logits_for_another_number_of_words_are_refused() -> None:
    with pytest.raises(ValueError, match="1 rows of logits for 2 words"):
        SPEC.evaluate(examples(["O", "B-PER"]), [logits_of(["O"])], LABELS, {})
    with pytest.raises(ValueError, match="3 rows of logits for 2 words"):
        SPEC.decode(Example("a b"), logits_of(["O"] * 3), LABELS, {})


GOLD = (["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-PER"])
PREDICTED = (["B-PER", "I-PER", "O", "B-PER"], ["B-LOC", "B-PER"])


def examples(*tags: list[str]) -> list[Example]:
    return [SPEC.read({"words": ["x"] * len(row), "tags": row}) for row in tags]


def test_figures_over_entities_are_those_computed_by_hand() -> None:
    metrics = SPEC.evaluate(examples(*GOLD), [logits_of(row) for row in PREDICTED], LABELS, {})
    assert (metrics["precision"], metrics["recall"]) == (2 / 4, pytest.approx(2 / 3))
    assert metrics["f1"] == pytest.approx(4 / 7)
    assert metrics["per_type"] == {
        "LOC": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
        "PER": {"precision": pytest.approx(2 / 3), "recall": 1.0, "f1": pytest.approx(0.8), "support": 2},
    }
    assert SPEC.primary in json.loads(json.dumps(metrics))


@pytest.mark.parametrize("name", ["micro avg", "macro avg", "big avg", "a-b", "-"])
def test_a_type_of_any_name_has_its_row(name: str) -> None:
    labels = SPEC.learn_labels(examples([f"B-{name}", "B-PER"]))
    rows = np.eye(len(labels), dtype=np.float32)[[labels.index(f"B-{name}"), labels.index("O")]]
    metrics = SPEC.evaluate(examples([f"B-{name}", "B-PER"]), [rows], labels, {})
    assert metrics["per_type"] == {
        name: {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1},
        "PER": {"precision": None, "recall": 0.0, "f1": 0.0, "support": 1},
    }
    assert metrics["f1"] == pytest.approx(2 / 3)


@settings(deadline=None)
@given(st.lists(st.tuples(TAGS, st.randoms(use_true_random=False)), min_size=1, max_size=4))
def test_figures_are_those_of_seqeval(rows: list[tuple[list[str], Any]]) -> None:
    gold = [to_iob2(tags) for tags, _ in rows]
    predicted = [
        to_iob2([tag if draw.random() < 0.6 else draw.choice(LABELS) for tag in tags]) for tags, draw in rows
    ]
    assume(
        any(tag != "O" for tags in [*gold, *predicted] for tag in tags)
    )  # seqeval has no answer to nothing
    report = classification_report(
        gold, predicted, mode="strict", scheme=IOB2, output_dict=True, zero_division=0
    )
    metrics = SPEC.evaluate(examples(*gold), [logits_of(tags) for tags in predicted], LABELS, {})
    for name, row in {"micro avg": metrics, **metrics["per_type"]}.items():
        own = [
            row[key] or 0.0 for key in ("precision", "recall", "f1")
        ]  # seqeval has 0 for what has no value
        assert own == pytest.approx([report[name][key] for key in ("precision", "recall", "f1-score")])
    assert list(metrics["per_type"]) == [name for name in report if not name.endswith(" avg")]


def test_token_metrics_leave_out_o() -> None:
    token = SPEC.evaluate(examples(*GOLD), [logits_of(row) for row in PREDICTED], LABELS, {})["token"]
    assert token == pytest.approx(
        {
            "accuracy": 4 / 6,
            "precision_micro_without_o": 3 / 5,
            "recall_micro_without_o": 3 / 4,
            "f1_micro_without_o": 6 / 9,
        }
    )


def test_an_entity_with_one_word_missing_does_not_count() -> None:
    gold, predicted = ["B-PER", "I-PER", "I-PER"], ["B-PER", "I-PER", "O"]
    metrics = SPEC.evaluate(examples(gold), [logits_of(predicted)], LABELS, {})
    assert metrics["f1"] == 0.0
    assert metrics["token"]["f1_micro_without_o"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("gold", "predicted", "figures"),
    [
        (["O", "O"], ["O", "O"], (None, None, None)),
        (["O", "O"], ["B-PER", "O"], (0.0, None, 0.0)),
        (["B-PER", "O"], ["O", "O"], (None, 0.0, 0.0)),
    ],
)
def test_a_figure_that_divides_by_nothing_has_no_value_and_gives_no_warning(
    gold: list[str], predicted: list[str], figures: tuple[float | None, ...]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = SPEC.evaluate(examples(gold), [logits_of(predicted)], LABELS, {})
    for row in (metrics, *metrics["per_type"].values()):
        assert (row["precision"], row["recall"], row["f1"]) == figures
    assert tuple(metrics["token"].values())[1:] == figures


@settings(deadline=None)
@given(st.lists(TAGS.filter(bool), min_size=1, max_size=4))
def test_evaluate_finds_exactly_the_entities_of_decode(rows: list[list[str]]) -> None:
    rows = [to_iob2(row) for row in rows]
    gold = examples(*rows)
    found = [
        SPEC.decode(example, logits_of(row), LABELS, {})["entities"]
        for example, row in zip(gold, rows, strict=True)
    ]
    metrics = SPEC.evaluate(gold, [logits_of(row) for row in rows], LABELS, {})
    assert sum(row["support"] for row in metrics["per_type"].values()) == sum(map(len, found))
    assert metrics["f1"] == (1.0 if any(found) else None)
