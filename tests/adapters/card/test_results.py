"""The tables of results on a card."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from onetrunk.adapters.card import CALIBRATED_ON_DEV
from tests.adapters.card.cards import MANIFEST, card, result_tables


def test_dev_metrics_of_a_calibrated_decoder_are_marked() -> None:
    assert CALIBRATED_ON_DEV not in card()
    results = card(replace(MANIFEST, settings={"threshold": 0.5})).split("## How to use")[0]
    assert results.endswith(f"|\n\n{CALIBRATED_ON_DEV}\n\n")


def test_the_metrics_stand_in_a_table_with_a_column_a_split() -> None:
    assert (
        "| | dev | test |\n|---|---|---|\n| accuracy | 0.5000 | 1.0000 |\n| macro_f1 | 0.2500 |  |" in card()
    )
    assert "| rows | 7 |" in card()
    assert "table" not in card().split("## Training")[0]


def test_any_table_of_numbers_is_shown_whatever_it_is_called() -> None:
    rows = {"pos": {"z": 2, "f1": 0.5}, "neg": {"f1": None, "precision": 1.0}, "all": {"f1": 0.25}}
    (_, table) = result_tables({"accuracy": 1.0, "my_rows": rows})
    assert table == [
        ["", "precision", "f1", "z"],
        ["neg", "1.0000", "", ""],
        ["pos", "", "0.5000", "2"],
        ["all", "", "0.2500", ""],
    ]
    assert "### My rows on test" in card(replace(MANIFEST, metrics={"test": {"my_rows": rows}}))


@pytest.mark.parametrize(
    "value",
    [{}, {"x": 1}, {"x": {}}, {"x": {"y": "z"}}, {"x": {"y": True}}, [{"x": {"y": 1}}], {"x": {"y": [1]}}],
)
def test_what_is_no_table_of_numbers_is_left_to_task_json(value: object) -> None:
    assert len(result_tables({"accuracy": 1.0, "own": value})) == 1


def test_the_tables_are_those_of_test_and_of_dev_where_test_has_none() -> None:
    one, two = {"a": {"f1": 0.1}}, {"a": {"f1": 0.2}}
    text = card(replace(MANIFEST, metrics={"test": {"own": one}, "dev": {"own": two, "other": two}}))
    assert re.findall("^### .*", text, re.MULTILINE) == ["### Other on dev", "### Own on test"]


def test_a_large_table_shows_the_weakest_and_says_so() -> None:
    labels = [f"l{i:03}" for i in range(99)]
    rows = {label: {"f1": None if i == 0 else i / 99} for i, label in enumerate(reversed(labels))}
    (_, (_, *shown)) = result_tables({"accuracy": 1.0, "per_label": rows}, labels)
    assert [row[0] for row in shown] == labels[:-1][::-1][:40]
    text = card(replace(MANIFEST, metrics={"test": {"per_label": rows}}))
    assert "These are the 40 classes with the lowest f1. `task.json` has all 99." in text


def test_a_large_table_without_scores_shows_the_first() -> None:
    rows = {f"l{i:03}": {"n": i} for i in range(41)}
    (_, (_, *shown)) = result_tables({"accuracy": 1.0, "per_label": rows})
    assert [row[0] for row in shown] == list(rows)[:40]


def test_the_confusion_matrix_is_shown_up_to_twenty_labels() -> None:
    def matrix(side: int) -> dict[str, Any]:
        return {"labels": [f"l{i}" for i in range(side)], "rows": [[i] * side for i in range(side)]}

    (_, table) = result_tables({"accuracy": 1.0, "confusion": matrix(20)})
    assert table[0] == ["", *(f"l{i}" for i in range(20))]
    assert table[2] == ["l1", *["1"] * 20]
    assert len(result_tables({"accuracy": 1.0, "confusion": matrix(21)})) == 1
    text = card(replace(MANIFEST, metrics={"test": {"confusion": matrix(21)}}))
    assert "The matrix of 21 labels is in `task.json`." in text


@pytest.mark.parametrize("rows", [[], [[1]], [[1, 2], [3]], [[1, 2], [3, "x"]], None, {"a": 1}])
def test_a_matrix_that_is_none_is_left_out(rows: object) -> None:
    assert len(result_tables({"accuracy": 1.0, "confusion": {"labels": ["a", "b"], "rows": rows}})) == 1
