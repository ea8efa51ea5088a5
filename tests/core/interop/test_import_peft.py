"""Plain PEFT adapters give the same logits after their import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from onetrunk.adapters.store.store import Store
from onetrunk.adapters.store.version_index import Origin
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.interop.import_peft import base_of
from tests.core.interop.conftest import LABELS, PATTERNS, Make, Texts, check_equal, manifest_of, taken


@pytest.mark.parametrize(
    "options",
    [{}, PATTERNS, {"use_rslora": True}, {**PATTERNS, "use_rslora": True}, {"layers_to_transform": [1]}],
    ids=["r=8", "patterns", "rslora", "patterns and rslora", "one layer"],
)
@pytest.mark.parametrize("task", ["ner", "sentiment"])
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_an_adapter_of_plain_peft_answers_as_peft_does(
    family: str,
    task: str,
    options: dict[str, Any],
    make: Make,
    store: Store,
    some_texts: Texts,
    request: pytest.FixtureRequest,
) -> None:
    backbone: Backbone = request.getfixturevalue(family)
    folder, model = make(backbone, task, **options)
    check_equal(taken(folder, backbone, store, task), model, backbone, task, some_texts(20))


@pytest.mark.parametrize(
    ("family", "task", "options"),
    [
        ("electra", "ner", {}),
        ("electra", "sentiment", {}),
        ("distilbert", "ner", {}),
        ("distilbert", "sentiment", {"modules_to_save": ["pre_classifier"]}),
        ("deberta", "ner", {}),
        ("deberta", "sentiment", {"modules_to_save": ["pooler"]}),
    ],
)
def test_other_families_answer_as_peft_does(
    family: str,
    task: str,
    options: dict[str, Any],
    make: Make,
    store: Store,
    some_texts: Texts,
    request: pytest.FixtureRequest,
) -> None:
    backbone: Backbone = request.getfixturevalue(family)
    folder, model = make(backbone, task, **options)
    check_equal(taken(folder, backbone, store, task), model, backbone, task, some_texts(10))


@pytest.mark.parametrize(
    "options", [{"target_modules": ["query", "dense"]}, {"modules_to_save": ["pooler"]}], ids=str
)
def test_what_was_trained_of_the_pooler_comes_along(
    options: dict[str, Any], bert: Backbone, make: Make, store: Store, some_texts: Texts
) -> None:
    folder, model = make(bert, "sentiment", **options)
    assert any("pooler" in key for key in load_file(folder / "adapter_model.safetensors"))
    check_equal(taken(folder, bert, store, "sentiment"), model, bert, "sentiment", some_texts(10))


def test_what_is_stored_loads_into_plain_peft_again(
    bert: Backbone, make: Make, store: Store, some_texts: Texts
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForTokenClassification

    folder, _ = make(bert, **PATTERNS)
    stored = taken(folder, bert, store)
    base = AutoModelForTokenClassification.from_pretrained(bert.name, num_labels=len(LABELS["ner"]))
    check_equal(stored, PeftModel.from_pretrained(base, str(stored.path)).eval(), bert, "ner", some_texts(10))


def test_what_nobody_knows_of_the_training_is_not_invented(
    copied: Path, bert: Backbone, store: Store
) -> None:
    origin = Origin("org/repo", "0" * 40, "main")
    stored = taken(copied, bert, store, origin=origin)
    manifest = manifest_of(stored)
    assert (manifest.data, manifest.metrics, manifest.parent, manifest.settings) == ({}, {}, None, {})
    assert manifest.training["imported"]["r"] == 8
    assert bert.name not in json.dumps(manifest.to_json())
    assert (stored.origin, manifest.method, manifest.head) == (origin, "lora", "peft")


def test_the_base_model_is_the_one_that_peft_names(copied: Path, bert: Backbone) -> None:
    assert base_of(copied) == (bert.name, None)
    (copied / "adapter_config.json").write_text("{}")
    assert base_of(copied) == (None, None)
