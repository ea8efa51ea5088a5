from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from onetrunk.adapters.card import CALIBRATED_ON_DEV, RECIPES, render_card
from onetrunk.adapters.manifest import BackboneRecord, DataRecord, Manifest, Parameters, PluginRecord, Probe

MANIFEST = Manifest(
    onetrunk="0.1.0",
    task="sentiment",
    plugin=PluginRecord(distribution="onetrunk", version="0.1.0"),
    level="text",
    labels=("neg", "pos"),
    pooling="cls",
    head="peft",
    method="lora",
    settings={},
    backbone=BackboneRecord(
        name="some-org/some-bert",
        revision="abc",
        fingerprint="f" * 64,
        tokenizer="e" * 64,
        style="bert",
        hidden_size=32,
        layers=2,
    ),
    data={"train": DataRecord(sha256="0" * 64, rows=1234, source="train.jsonl")},
    metrics={
        "dev": {"accuracy": 0.5, "macro_f1": 0.25, "rows": 7, "table": {"x": 1}, "recall": None},
        "test": {"accuracy": 1.0},
    },
    training={"epochs": 3},
    parent="sentiment@1",
    parameters=Parameters(trained=1000, backbone=100_000),
    probe=Probe(texts=("a",), logits=([0.0, 1.0],)),
    created="2026-01-31T12:00:00+00:00",
)


def card(manifest: Manifest = MANIFEST, recipe: str | None = "cls", name: str = "mood") -> str:
    return render_card(name, manifest, recipe, "one label a text")


def test_one_row_is_a_row() -> None:
    one = replace(MANIFEST, data={"train": replace(MANIFEST.data["train"], rows=1)})
    assert "- train: 1 row, " in card(one)
    assert "- train: 1,234 rows, " in card()


def code_of(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_metadata_are_what_the_hub_reads() -> None:
    from huggingface_hub import ModelCard

    assert ModelCard(card()).data.to_dict() == {  # type: ignore[no-untyped-call]
        "library_name": "peft",
        "base_model": "some-org/some-bert",
        "base_model_relation": "adapter",
        "pipeline_tag": "text-classification",
        "tags": ["onetrunk", "lora", "sentiment"],
    }


@pytest.mark.parametrize("name", ["a: b", 'quo"te', "x\ny", "{brace}", "#x"])
def test_no_name_of_a_backbone_can_break_the_metadata(name: str) -> None:
    from huggingface_hub import ModelCard

    odd = replace(MANIFEST, backbone=replace(MANIFEST.backbone, name=name))
    assert ModelCard(card(odd)).data.to_dict()["base_model"] == name  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("manifest", "recipe", "loader"),
    [
        (replace(MANIFEST, level="token", pooling=None), "token", "AutoModelForTokenClassification"),
        (MANIFEST, "cls", "AutoModelForSequenceClassification"),
        (replace(MANIFEST, pooling="mean", head="file"), "mean", "AutoModel"),
        (replace(MANIFEST, head="file"), "first", "AutoModel"),
        (replace(MANIFEST, level="token", pooling=None, head="file"), "words", "AutoModel"),
    ],
)
def test_each_form_has_lines_of_python_that_load_it(manifest: Manifest, recipe: str, loader: str) -> None:
    (code,) = code_of(card(manifest, recipe))
    compile(code, "card", "exec")
    assert f"{loader}.from_pretrained(base" in code
    assert 'base, adapter = "some-org/some-bert", "."' in code


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_lines_load_the_very_revision_that_was_trained_on(recipe: str) -> None:
    (pinned,) = code_of(card(recipe=recipe))
    assert pinned.count(".from_pretrained(base") == pinned.count('.from_pretrained(base, revision="abc"') > 0
    local = replace(MANIFEST, backbone=replace(MANIFEST.backbone, revision=None))
    (plain,) = code_of(card(local, recipe))
    assert "revision" not in plain


@pytest.mark.parametrize(("level", "told"), [("token", True), ("text", False)])
def test_words_that_the_tokenizer_drops_are_spoken_of_where_words_are_read(level: str, told: bool) -> None:
    assert ("A word of which the tokenizer leaves nothing" in card(replace(MANIFEST, level=level))) == told


def test_dev_figures_of_a_calibrated_decoder_are_marked() -> None:
    assert CALIBRATED_ON_DEV not in card()
    results = card(replace(MANIFEST, settings={"threshold": 0.5})).split("## Use")[0]
    assert results.endswith(f"|\n\n{CALIBRATED_ON_DEV}\n\n")


def test_a_head_of_a_plugins_own_is_said_to_be_so() -> None:
    text = card(replace(MANIFEST, head="file", pooling="mean"), None)
    assert code_of(text) == []
    assert "the plugin's own" in text


def test_the_figures_stand_in_a_table_with_a_column_a_split() -> None:
    assert (
        "| | dev | test |\n|---|---|---|\n| accuracy | 0.5000 | 1.0000 |\n| macro_f1 | 0.2500 |  |" in card()
    )
    assert "| rows | 7 |" in card()
    assert "table" not in card().split("## Training")[0]


def test_what_was_trained_from_what_is_told() -> None:
    text = card()
    assert "parameters trained: 1,000 (1.00 % of the backbone's)" in text
    assert f"train: 1,234 rows, sha256 `{'0' * 16}…`" in text
    assert "started from sentiment@1" in text
    assert json.loads(re.findall(r"```json\n(.*?)```", text, re.DOTALL)[0]) == {"epochs": 3}


@pytest.mark.parametrize("label", ["back`tick", "new\nline", "```", "| pipe |"])
def test_no_label_can_break_out_of_its_quotes(label: str) -> None:
    text = card(replace(MANIFEST, labels=("neg", label)))
    (line,) = [line for line in text.splitlines() if line.startswith("Labels (2):")]
    assert line.count("`") == 4
