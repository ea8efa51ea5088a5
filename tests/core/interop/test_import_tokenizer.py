"""Adapters of plain PEFT that come with a tokenizer: that of their backbone, or another one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from onetrunk.adapters.errors import ArtifactError
from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.interop.import_tokenizer import TOKENIZER_FILES
from tests.core.interop.conftest import edit_tensors, taken


@pytest.fixture
def with_tokenizer(copied: Path, bert: Backbone) -> Path:
    """The folder with a copy of the backbone's tokenizer, as a Trainer leaves it."""
    bert.read_tokenizer().save_pretrained(copied)
    for path in copied.iterdir():
        if not path.name.startswith("adapter") and path.name not in TOKENIZER_FILES:
            path.unlink()
    assert (copied / "tokenizer.json").exists()
    return copied


def test_the_tokenizer_of_the_backbone_is_accepted(
    with_tokenizer: Path, bert: Backbone, store: Store
) -> None:
    assert taken(with_tokenizer, bert, store).ref == "x@1"


@pytest.mark.parametrize("special", [True, False])
def test_added_tokens_are_refused_by_name(
    special: bool, with_tokenizer: Path, bert: Backbone, store: Store
) -> None:
    tokenizer = bert.read_tokenizer()
    tokenizer.add_tokens(["<e1>", "covid"], special_tokens=special)
    tokenizer.save_pretrained(with_tokenizer)
    with pytest.raises(ArtifactError, match=r"its tokenizer has 2 tokens that the backbone .* lacks: .*<e1>"):
        taken(with_tokenizer, bert, store)
    assert store.names() == []


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("added_tokens.json", {"<e1>": 77}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"77": {"content": "<e1>", "special": True}}}),
        ("special_tokens_map.json", {"additional_special_tokens": [{"content": "<e1>"}]}),
        ("special_tokens_map.json", {"additional_special_tokens": ["<e1>"]}),
    ],
    ids=["added", "config", "special", "special text"],
)
def test_added_tokens_are_found_without_tokenizer_json(
    file: str, content: dict[str, Any], copied: Path, bert: Backbone, store: Store
) -> None:
    (copied / file).write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=r"its tokenizer has 1 tokens that the backbone .* lacks: <e1>;"):
        taken(copied, bert, store)


def test_a_vocabulary_in_another_order_is_refused(copied: Path, bert: Backbone, store: Store) -> None:
    vocabulary = sorted(bert.read_tokenizer().get_vocab())
    (copied / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"its tokenizer has other ids than the backbone"):
        taken(copied, bert, store)


def no_lower_case(tokenizer: dict[str, Any]) -> None:
    tokenizer["normalizer"] = None


def no_words(tokenizer: dict[str, Any]) -> None:
    tokenizer["pre_tokenizer"] = None


@pytest.mark.parametrize("change", [no_lower_case, no_words])
def test_a_tokenizer_that_splits_texts_differently_is_refused(
    change: Callable[[dict[str, Any]], None], with_tokenizer: Path, bert: Backbone, store: Store
) -> None:
    file = with_tokenizer / "tokenizer.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=r"its tokenizer\.json splits '.*' into other tokens"):
        taken(with_tokenizer, bert, store)


@pytest.mark.parametrize("content", ["{", "[]", '{"model": 3}'])
def test_a_tokenizer_that_cannot_be_read_is_refused(
    content: str, copied: Path, bert: Backbone, store: Store
) -> None:
    (copied / "tokenizer.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json cannot be read"):
        taken(copied, bert, store)


def test_a_link_is_not_followed(with_tokenizer: Path, bert: Backbone, store: Store, tmp_path: Path) -> None:
    shutil.move(with_tokenizer / "tokenizer.json", tmp_path / "elsewhere")
    (with_tokenizer / "tokenizer.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is a link"):
        taken(with_tokenizer, bert, store)


def test_a_resized_vocabulary_is_refused(copied: Path, bert: Backbone, store: Store) -> None:
    (copied / "config.json").write_text(json.dumps({"vocab_size": bert.config.vocab_size + 2}))
    with pytest.raises(ArtifactError, match=r"config\.json says \d+ tokens, the backbone .* were resized"):
        taken(copied, bert, store)


def test_saved_embeddings_are_refused_with_the_reason(copied: Path, bert: Backbone, store: Store) -> None:
    name = "base_model.model.bert.embeddings.word_embeddings.weight"
    edit_tensors(copied, {name: torch.zeros(bert.config.vocab_size + 1, 32)})
    with pytest.raises(
        ArtifactError, match="tokens were added or their embeddings were trained: train it again"
    ):
        taken(copied, bert, store)
