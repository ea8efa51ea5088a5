"""The lines of a card that use an adapter."""

from __future__ import annotations

import ast
from dataclasses import replace

import pytest
from hypothesis import given

from onetrunk.adapters.card import RECIPES
from onetrunk.adapters.format.manifest import (
    Manifest,
    Recipe,
)
from tests.adapters.card.cards import MANIFEST, STRANGE, card, code_of, on_hub


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
def test_each_form_has_lines_of_python_that_load_it(manifest: Manifest, recipe: Recipe, loader: str) -> None:
    (code,) = code_of(card(manifest, recipe))
    compile(code, "card", "exec")
    assert f"{loader}.from_pretrained(base" in code
    assert 'base, adapter = "some-org/some-bert", "."' in code


@pytest.mark.parametrize("recipe", RECIPES)
def test_on_the_hub_the_lines_load_from_there(recipe: Recipe) -> None:
    (code,) = code_of(on_hub(recipe=recipe))
    compile(code, "card", "exec")
    assert 'adapter = "some-org/some-bert", "some-org/mood"\n' in code
    assert 'hf_hub_download(adapter, "' in code
    assert "this folder" not in code


@given(STRANGE)
def test_no_name_of_a_backbone_can_break_the_lines(name: str) -> None:
    (code,) = code_of(card(replace(MANIFEST, backbone=replace(MANIFEST.backbone, name=name))))
    assigned = next(node for node in ast.parse(code).body if isinstance(node, ast.Assign))
    assert ast.literal_eval(assigned.value) == (name, ".")


def test_the_commands_name_the_adapter_where_it_is() -> None:
    assert 'adapters predict mood "some text"' in card()
    assert "\nadapters serve mood\n" in card()
    for command in ('predict some-org/mood "some text"', "pull some-org/mood ", "serve mood=some-org/mood\n"):
        assert f"\nadapters {command}" in on_hub()


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_lines_load_the_very_revision_that_was_trained_on(recipe: Recipe) -> None:
    (pinned,) = code_of(card(recipe=recipe))
    assert pinned.count(".from_pretrained(base") == pinned.count('.from_pretrained(base, revision="abc"') > 0
    local = replace(MANIFEST, backbone=replace(MANIFEST.backbone, revision=None))
    (plain,) = code_of(card(local, recipe))
    assert "revision" not in plain


@pytest.mark.parametrize(("level", "told"), [("token", True), ("text", False)])
def test_words_that_the_tokenizer_drops_are_spoken_of_where_words_are_read(level: str, told: bool) -> None:
    assert ("If the tokenizer drops a whole word" in card(replace(MANIFEST, level=level))) == told


def test_a_head_that_only_its_plugin_defines_has_no_lines_of_python() -> None:
    text = card(replace(MANIFEST, head="file", pooling="mean"), None)
    assert code_of(text) == []
    assert "Only the task's plugin defines how the head computes" in text


@pytest.mark.parametrize(("level", "told"), [("token", True), ("text", False)])
def test_the_card_names_the_unit_of_offsets(level: str, told: bool) -> None:
    text = card(replace(MANIFEST, level=level))
    assert ("`end`) count Unicode characters of the text, not bytes or UTF-16 code units" in text) == told
