from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onetrunk.core.tasks import Example
from onetrunk.core.testing import check_task
from onetrunk.plugins.sentiment import SPEC, tasks

LABELS = ("bad", "good", "mixed")


def logits(*values: float) -> np.ndarray:
    return np.array([values], dtype=np.float32)


def test_the_task_follows_the_contract() -> None:
    texts = [("good film", "good"), ("bad film", "bad"), ("awful book", "bad"), ("great book", "good")]
    check_task(SPEC, [{"text": text, "label": label} for text, label in texts * 3])
    assert list(tasks()) == [SPEC]


@pytest.mark.parametrize("plugin", ["ner", "sentiment", "intent"])
def test_importing_a_built_in_plugin_loads_no_heavy_package(plugin: str) -> None:
    heavy = "{'torch', 'numpy', 'seqeval', 'sklearn', 'transformers'}"
    code = f"import sys, onetrunk.plugins.{plugin}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("label", "target"), [("good", "good"), (" good ", "good"), (3, "3"), (True, "true"), (None, None)]
)
def test_a_label_becomes_a_string_and_may_be_absent(label: object, target: str | None) -> None:
    assert SPEC.read({"text": "x", "label": label}) == Example("x", target)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"label": "good"}, "expected a string under 'text', found None"),
        ({"text": 3, "label": "good"}, "expected a string under 'text', found 3"),
        ({"text": "x", "label": 0.5}, "expected a string or an integer under 'label', found 0.5"),
        ({"text": "x", "label": ["good", "bad"]}, "expected one label, found 2"),
        ({"text": "x", "label": {"good": 1}}, "expected a string or an integer under 'label'"),
        ({"text": "x", "label": " "}, "the label is empty"),
    ],
)
def test_a_faulty_record_is_refused_with_what_was_expected(record: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SPEC.read(record)


def test_labels_are_those_of_the_data_sorted() -> None:
    assert SPEC.learn_labels([Example("x", "good"), Example("y", "bad"), Example("z", "good")]) == (
        "bad",
        "good",
    )


@pytest.mark.parametrize(("found", "named"), [(["good"], "found: good"), ([], "found: none")])
def test_fewer_than_two_labels_are_refused(found: list[str], named: str) -> None:
    with pytest.raises(ValueError, match=f"at least two labels in the training data, {named}"):
        SPEC.learn_labels([Example("x", label) for label in found])


def test_an_unknown_label_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown label 'odd'; known: bad, good, mixed"):
        SPEC.targets(Example("x", "odd"), LABELS)


def test_of_many_known_labels_twenty_are_named() -> None:
    labels = tuple(f"l{i:03}" for i in range(150))
    with pytest.raises(ValueError, match="l019 and 130 more"):
        SPEC.targets(Example("x", "odd"), labels)


def test_a_record_without_a_label_has_no_target_to_learn_from() -> None:
    with pytest.raises(ValueError, match="the record has no label"):
        SPEC.targets(Example("x"), LABELS)


def test_the_target_is_the_index_of_the_label() -> None:
    assert SPEC.targets(Example("x", "mixed"), LABELS) == [2]


def test_decode_gives_the_best_label_and_all_probabilities() -> None:
    prediction = SPEC.decode(Example("x"), logits(0.0, np.log(3.0), np.log(4.0)), LABELS, {})
    assert prediction["label"] == "mixed"
    assert prediction["score"] == pytest.approx(0.5)
    assert prediction["scores"] == pytest.approx({"bad": 1 / 8, "good": 3 / 8, "mixed": 1 / 2})


@settings(deadline=None)
@given(arrays(np.float32, (1, 3), elements=st.floats(-100, 100, width=32)))
def test_probabilities_sum_to_one_and_the_score_is_the_highest(rows: np.ndarray) -> None:
    prediction = json.loads(json.dumps(SPEC.decode(Example("x"), rows, LABELS, {})))
    assert sum(prediction["scores"].values()) == pytest.approx(1)
    assert (
        prediction["score"] == max(prediction["scores"].values()) == prediction["scores"][prediction["label"]]
    )


def test_evaluate_gives_the_figures_computed_by_hand() -> None:
    gold = ["bad", "bad", "good", "good"]
    rows = [logits(1, 0, 0), logits(0, 1, 0), logits(0, 1, 0), logits(0, 1, 0)]
    metrics = SPEC.evaluate([Example("x", label) for label in gold], rows, LABELS, {})
    assert metrics["accuracy"] == 0.75
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert metrics["confusion"] == {"labels": list(LABELS), "rows": [[1, 1, 0], [0, 2, 0], [0, 0, 0]]}
    assert metrics["per_label"]["good"] == pytest.approx(
        {"precision": 2 / 3, "recall": 1.0, "f1": 0.8, "support": 2}
    )
    assert SPEC.primary in json.loads(json.dumps(metrics))


@settings(deadline=None)
@given(arrays(np.float32, (5, 3), elements=st.sampled_from([-1.0, 0.0, 1.0])))
def test_evaluate_finds_the_predictions_of_decode_right_also_in_a_tie(rows: np.ndarray) -> None:
    units = [row[None] for row in rows]
    examples = [Example("x", SPEC.decode(Example("x"), unit, LABELS, {})["label"]) for unit in units]
    assert SPEC.evaluate(examples, units, LABELS, {})["accuracy"] == 1.0
