"""Adapters that the import refuses; the store stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from onetrunk.adapters.errors import ArtifactError, OneTrunkError
from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import AdapterRejected, UnsupportedBackbone, UsageError
from tests.core.interop.conftest import (
    QUERY,
    Make,
    edit_config,
    edit_tensors,
    leave_a_pickle,
    replace_by_link,
    replace_by_pipe,
    taken,
    write_config,
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_dora": True}, "not supported: use_dora=True"),
        ({"bias": "all"}, "not supported: bias='all'"),
        ({"bias": "lora_only"}, "not supported: bias='lora_only'"),
        ({"lora_bias": True}, "not supported: lora_bias=True"),
        ({"init_lora_weights": "pissa"}, "not supported: init_lora_weights='pissa'"),
        ({"trainable_token_indices": [5]}, "not supported: trainable_token_indices="),
        (
            {"modules_to_save": ["LayerNorm"]},
            r"belong neither to LoRA nor to the head: bert\.e.* is frozen",
        ),
        ({"target_modules": ["word_embeddings"]}, "weights of neither|no LoRA weights"),
    ],
    ids=str,
)
def test_what_peft_can_do_and_this_cannot_is_refused_by_name(
    options: dict[str, Any], message: str, bert: Backbone, make: Make, store: Store
) -> None:
    folder, _ = make(bert, **options)
    with pytest.raises(ArtifactError, match=message):
        taken(folder, bert, store)
    assert store.names() == []


def test_a_head_that_peft_did_not_save_is_missed_by_name(deberta: Backbone, make: Make, store: Store) -> None:
    folder, _ = make(deberta, "sentiment")
    with pytest.raises(
        ArtifactError, match=r"lacks weights of the head: pooler\.dense.* modules_to_save=\[.*'pooler'"
    ):
        taken(folder, deberta, store, "sentiment")


def test_an_encoder_whose_heads_are_not_ours_is_refused(
    copied: Path, modernbert: Backbone, store: Store
) -> None:
    with pytest.raises(UnsupportedBackbone, match="heads of modernbert in transformers are not supported"):
        taken(copied, modernbert, store)


def test_an_adapter_for_another_kind_of_task_is_refused(copied: Path, bert: Backbone, store: Store) -> None:
    with pytest.raises(UsageError, match="task_type is 'TOKEN_CLS', but task 'sentiment' needs SEQ_CLS"):
        taken(copied, bert, store, "sentiment")


def test_an_adapter_without_a_head_is_refused(bert: Backbone, make: Make, copied: Path, store: Store) -> None:
    edit_tensors(
        copied, {key: None for key in load_file(copied / "adapter_model.safetensors") if "lora" not in key}
    )
    with pytest.raises(ArtifactError, match="has no classifier"):
        taken(copied, bert, store)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (replace_by_link, "adapter_model.safetensors is a link"),
        (replace_by_pipe, "adapter_config.json is not a regular file"),
        (leave_a_pickle, "adapter_model.bin is a pickle, which can run code and is never read"),
        (write_config("[]"), "adapter_config.json must be a JSON object"),
        (write_config('{"r": 1, "r": 2}'), "has the key 'r' twice"),
        (write_config('{"r": NaN}'), "only finite ones are allowed"),
        (write_config("[" * 100_000), "is nested deeper|is not JSON"),
        (lambda f: edit_config(f, peft_type="IA3"), "peft_type is 'IA3', expected 'LORA'"),
        (lambda f: edit_config(f, use_magic=7), "unknown options: use_magic=7"),
        (lambda f: edit_config(f, r=4), r"A is \(8, 32\) and B .*, but r is 4"),
        (lambda f: edit_config(f, target_modules=["query", "key", "value", "intermediate.dense"]),
         "targets key of layer 0, but adapter_model.safetensors has no LoRA weights for it"),
        (lambda f: (f / "adapter_model.safetensors").write_bytes(b"x" * 100), "is not a safetensors file"),
        (lambda f: edit_tensors(f, {f"{QUERY}.lora_A.weight": torch.full((8, 32), torch.nan)}), "are not finite"),
        (lambda f: edit_tensors(f, {f"{QUERY}.lora_B.weight": None}), "has only lora_A for layer 0 query"),
        (lambda f: edit_tensors(f, {"base_model.model.bert.embeddings.LayerNorm.weight": torch.ones(32)}),
         "belong neither to LoRA nor to the head: bert.embeddings.LayerNorm.weight"),
        (lambda f: edit_tensors(f, {"x": torch.ones(1)}), "belong neither to LoRA nor to the head: x;"),
    ],
    ids=range(16),
)  # fmt: skip
def test_a_broken_or_hostile_folder_is_refused(
    spoil: Callable[[Path], object], message: str, copied: Path, bert: Backbone, store: Store
) -> None:
    spoil(copied)
    with pytest.raises(ArtifactError, match=message):
        taken(copied, bert, store)
    assert store.names() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {QUERY.replace("layer.0", "layer.7") + f".lora_{half}.weight": torch.ones(shape)
             for half, shape in (("A", (8, 32)), ("B", (32, 8)))},
            r"the update of layer 7 query has shape \(32, 32\), the backbone has no such layer",
        ),
        (
            {f"{QUERY}.lora_A.weight": torch.ones(8, 16)},
            r"the update of layer 0 query has shape \(32, 16\), the backbone has \(32, 32\)",
        ),
        ({"base_model.model.classifier.bias": torch.ones(7)}, r"head weight classifier\.bias has shape \(7,\)"),
    ],
    ids=["layer", "width", "bias"],
)  # fmt: skip
def test_weights_that_do_not_fit_the_backbone_are_refused(
    changes: dict[str, Any], message: str, copied: Path, bert: Backbone, store: Store
) -> None:
    edit_tensors(copied, changes)
    with pytest.raises(AdapterRejected, match=message):
        taken(copied, bert, store)
    assert store.names() == []


def test_an_adapter_of_another_architecture_is_refused(copied: Path, roberta: Backbone, store: Store) -> None:
    with pytest.raises(ArtifactError, match="no LoRA weights of a roberta encoder below 'roberta'"):
        taken(copied, roberta, store)


def test_a_single_huge_rank_cannot_fill_the_memory(copied: Path, bert: Backbone, store: Store) -> None:
    rank = 600_000
    edit_config(copied, rank_pattern={"layer.0.attention.self.query": rank})
    huge = {
        "A": torch.zeros(rank, 32, dtype=torch.bfloat16),
        "B": torch.zeros(32, rank, dtype=torch.bfloat16),
    }
    edit_tensors(copied, {f"{QUERY}.lora_{half}.weight": tensor for half, tensor in huge.items()})
    with pytest.raises(ArtifactError, match=r"bytes at their highest rank, 600000; at most"):
        taken(copied, bert, store)


def test_a_name_that_cannot_be_one_leaves_the_store_as_it_was(
    copied: Path, bert: Backbone, store: Store
) -> None:
    with pytest.raises(OneTrunkError, match="is not a reference"):
        taken(copied, bert, store, name="../x")
    assert store.names() == []
