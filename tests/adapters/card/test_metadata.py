"""The metadata on top of a card, as the Hub reads them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results
from hypothesis import given, settings
from hypothesis import strategies as st

from onetrunk.adapters.format.manifest import (
    DataRecord,
)
from tests.adapters.card.cards import MANIFEST, STRANGE, card, metadata_of


def test_the_metadata_are_what_the_hub_reads() -> None:
    found = metadata_of(card())
    del found["model-index"]
    assert found == {
        "library_name": "peft",
        "base_model": "some-org/some-bert",
        "base_model_relation": "adapter",
        "pipeline_tag": "text-classification",
        "tags": ["onetrunk", "onetrunk-format-2", "lora", "onetrunk-task:sentiment", "sentiment"],
        "metrics": ["accuracy", "f1"],
    }


def test_what_is_told_of_licence_languages_and_data_is_in_the_metadata() -> None:
    found = metadata_of(card(license="apache-2.0", languages=("no", "de"), datasets=("org/set", "b")))
    assert found["license"] == "apache-2.0"
    assert found["language"] == ["no", "de"]  # YAML 1.1 has a bare `no` as False
    assert found["datasets"] == ["org/set", "b"]


def test_line_separators_of_unicode_come_back_as_they_are() -> None:
    odd = ("a\x85b", "\u2028", "\u2029", "œuvre 🙂")
    assert metadata_of(card(languages=odd))["language"] == list(odd)


def test_the_results_are_what_the_hub_reads() -> None:
    data = {**MANIFEST.data, "test": DataRecord(sha256="1" * 64, rows=9, source="my test.jsonl")}
    index = metadata_of(card(replace(MANIFEST, data=data)))["model-index"]
    name, (dev, _, test) = model_index_to_eval_results(index)
    assert name == "mood"
    assert (dev.task_type, dev.task_name) == ("text-classification", "one label a text")
    assert (dev.dataset_name, dev.dataset_type, dev.dataset_split) == ("sentiment", "sentiment", "dev")
    assert (dev.metric_name, dev.metric_type, dev.metric_value) == ("accuracy", "accuracy", 0.5)
    assert (test.dataset_name, test.dataset_type) == ("my test.jsonl", "my-test.jsonl")
    assert test.metric_value == 1.0


def test_each_metric_has_the_hubs_word_for_it_and_counts_are_none() -> None:
    metrics = {"dev": {"macro_f1": 1, "rows": 7, "flag": True, "own": 0.5}}
    (result,) = metadata_of(card(replace(MANIFEST, metrics=metrics)))["model-index"][0]["results"]
    assert result["metrics"] == [
        {"name": "macro_f1", "type": "f1", "value": 1.0},
        {"name": "own", "type": "own", "value": 0.5},
    ]


def test_one_data_set_named_by_the_user_is_the_one_of_the_results() -> None:
    index = metadata_of(card(datasets=("org/set",)))["model-index"]
    assert {result["dataset"]["type"] for result in index[0]["results"]} == {"org/set"}


@pytest.mark.parametrize("value", [1e-7, 1e-5, 3e20, 0.1, -2.5, 0.0, 1e300])
def test_any_metric_is_read_as_a_number(value: float) -> None:
    index = metadata_of(card(replace(MANIFEST, metrics={"dev": {"loss": value}})))["model-index"]
    found = index[0]["results"][0]["metrics"][0]["value"]
    assert isinstance(found, float)
    assert found == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("metrics", [{}, {"dev": {}}, {"dev": {"accuracy": None}}])
def test_without_metrics_there_are_no_results(metrics: dict[str, Any]) -> None:
    text = card(replace(MANIFEST, metrics=metrics))
    assert "model-index" not in metadata_of(text)
    assert "No metrics." in text


@pytest.mark.parametrize(
    ("name", "revision", "told"),
    [
        ("org/bert", None, True),
        ("bert-base-uncased", "abc", True),
        ("my-folder", None, False),
        ("/home/ada/bert", "abc", False),
        ("C:\\bert", "abc", False),
        ("./bert", None, False),
        ("org/bert\n", None, False),
        ("a: b", None, False),
    ],
)
def test_the_hub_is_told_of_the_backbone_only_by_an_id(name: str, revision: str | None, told: bool) -> None:
    backbone = replace(MANIFEST.backbone, name=name, revision=revision)
    found = metadata_of(card(replace(MANIFEST, backbone=backbone)))
    assert ("base_model" in found, "base_model_relation" in found) == (told, told)


@settings(max_examples=40)
@given(st.lists(STRANGE, min_size=7, max_size=7))
def test_no_text_of_strangers_can_break_the_metadata(texts: list[str]) -> None:
    name, summary, licence, language, dataset, metric, source = texts
    data = {"test": DataRecord(sha256="0" * 64, rows=1, source=source)}
    odd = replace(MANIFEST, data=data, metrics={"test": {metric: 0.5}})
    text = card(
        odd, name=name, summary=summary, license=licence, languages=(language,), datasets=(dataset, "b")
    )
    found = yaml.safe_load(text.split("\n---\n")[0])
    assert found == metadata_of(text)
    assert (found["license"], found["language"], found["datasets"]) == (licence, [language], [dataset, "b"])
    (index,) = found["model-index"]
    (result,) = index["results"]
    assert (index["name"], result["task"]["name"]) == (name, summary)
    assert (result["metrics"][0]["name"], result["dataset"]["name"]) == (metric, source)
    assert re.fullmatch(r"([\w-]+/)?[\w.-]+", result["dataset"]["type"], re.ASCII)


def test_a_file_of_the_card_is_read_by_the_hubs_own_reader(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(card(name="a\n---\nb: \x00🙂").encode())
    found = metadata_load(path)
    assert found is not None
    assert found["model-index"][0]["name"] == "a\n---\nb: \x00🙂"
