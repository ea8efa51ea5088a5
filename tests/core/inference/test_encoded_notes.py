"""A note says how much of the texts the tokenizer of the backbone cannot read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.tokenization import unknown_share
from onetrunk.core.data.notes import Note
from onetrunk.core.inference.encoded_notes import notes_on_encoded
from onetrunk.core.inference.logits import encode_examples
from onetrunk.core.tasks import Example
from onetrunk.plugins.sentiment import SPEC

GOOD = "a good film and a great room in london " * 3


def notes_on(backbone: Backbone, *texts: str) -> list[Note]:
    examples = [replace(Example(text), where=f"f:{i}") for i, text in enumerate(texts, 1)]
    return notes_on_encoded(SPEC, examples, encode_examples(backbone.encoder, SPEC, examples), "f")


def test_the_share_counts_tokens_of_all_texts(bert: Backbone) -> None:
    assert unknown_share(bert.encoder.encode(["good 北 film 海", "good film"], [(), ()])) == pytest.approx(
        2 / 6
    )
    assert unknown_share(bert.encoder.encode([""], [()])) == 0


def test_texts_that_the_tokenizer_reads_get_no_note(bert: Backbone) -> None:
    assert notes_on(bert, GOOD, "東京 good") == []


def test_many_unknown_tokens_are_noted_with_their_share_and_place(bert: Backbone) -> None:
    (note,) = notes_on(bert, "good film", "good ☃ film ☂ a")
    assert (note.kind, note.source, note.count, note.where) == ("unknown-tokens", "f", 2, "f:2")
    assert note.message.startswith("28.6 % of the tokens are unknown to the tokenizer of the backbone; ")


def test_a_script_without_known_letters_is_noted_although_it_is_rare(bert: Backbone) -> None:
    (note,) = notes_on(bert, GOOD * 5, "Привет")
    assert "among them all letters of CYRILLIC" in note.message


def test_a_script_with_one_known_letter_is_none_of_those(bert: Backbone) -> None:
    assert notes_on(bert, GOOD * 5, "東 海") == []


def test_a_byte_level_tokenizer_knows_every_token(roberta: Backbone) -> None:
    assert notes_on(roberta, "北海 Привет ☃") == []


def test_training_returns_the_note_for_each_split_and_stores_it(
    bert: Backbone, train_tiny: Callable[..., Any], tmp_path: Any
) -> None:
    rows = [{"text": f"好{word}", "label": label} for word in "海山" for label in ("pos", "neg")]
    result = train_tiny(Store(tmp_path), "sentiment", bert, rows=rows, epochs=1)
    assert [note.kind for note in result.notes] == ["few-dev-rows", *["unknown-tokens"] * 2]
    (stored,) = read_manifest(result.stored.path).data["train"].notes
    assert stored.startswith("100 % of the tokens are unknown")
