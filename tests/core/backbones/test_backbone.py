from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.testing import TinyShape, tiny_backbone
from tests.core.backbones.changes import change_weights

# What loads


def test_a_folder_gives_a_frozen_float32_encoder(backbone: Backbone) -> None:
    assert all(tensor.dtype == torch.float32 for tensor in backbone.read_tensors().values())
    assert not any(tensor.requires_grad for tensor in backbone.read_tensors().values())
    assert backbone.revision is None
    assert backbone.parameters == sum(tensor.numel() for tensor in backbone.read_tensors().values())


def test_the_first_position_is_that_of_the_family(bert: Backbone, roberta: Backbone) -> None:
    assert (bert.first_position, roberta.first_position) == (0, 2)


def test_the_pooler_is_kept_where_there_is_one(copy: Path) -> None:
    assert Backbone.load(copy).pooler is not None
    change_weights(copy, lambda t: {k: v for k, v in t.items() if not k.startswith("pooler")})
    assert Backbone.load(copy).pooler is None


def test_the_dtype_of_the_trunk_changes_no_weight(bert_folder: Path) -> None:
    half, full = (Backbone.load(bert_folder, dtype=dtype) for dtype in ("bf16", "fp32"))
    assert (half.dtype, full.dtype) == (torch.bfloat16, torch.float32)
    assert half.fingerprint == full.fingerprint


def test_weights_in_shards_are_one_backbone(copy: Path) -> None:
    expected = Backbone.load(copy).fingerprint
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    weight_map = {key: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, key in enumerate(tensors)}
    for shard in sorted(set(weight_map.values())):
        save_file({key: tensors[key] for key in tensors if weight_map[key] == shard}, copy / shard)
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert Backbone.load(copy).fingerprint == expected


# Fingerprints


def test_the_fingerprint_is_the_same_under_the_prefix_of_a_model_with_a_head(copy: Path) -> None:
    expected = Backbone.load(copy).fingerprint
    change_weights(copy, lambda t: {**{f"bert.{k}": v for k, v in t.items()}, "cls.bias": torch.ones(3)})
    assert Backbone.load(copy).fingerprint == expected


def test_an_electra_that_was_pretrained_is_read_below_its_prefix(
    electra: Backbone, electra_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(electra_folder, tmp_path / "copy")
    change_weights(
        folder,
        lambda t: {
            **{f"electra.{k}": v for k, v in t.items()},
            "discriminator_predictions.dense.bias": torch.ones(3),
        },
    )
    assert Backbone.load(folder).fingerprint == electra.fingerprint


@pytest.mark.parametrize("family", ["electra", "distilbert"])
def test_a_family_without_a_pooler_has_none(family: str, request: pytest.FixtureRequest) -> None:
    found: Backbone = request.getfixturevalue(family)
    assert found.pooler is None
    assert (found.layers, found.hidden_size, found.first_position) == (2, 32, 0)


def test_the_fingerprint_is_the_same_under_the_old_names_of_norms(copy: Path) -> None:
    expected = Backbone.load(copy).fingerprint

    def old(name: str) -> str:
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    change_weights(copy, lambda t: {f"bert.{old(k)}": v for k, v in t.items()})
    assert Backbone.load(copy).fingerprint == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_fingerprint_is_the_same_in_any_dtype_that_holds_the_values(
    copy: Path, dtype: torch.dtype
) -> None:
    change_weights(copy, lambda t: {k: v.bfloat16().clamp(min=1e-3).float() for k, v in t.items()})
    expected = Backbone.load(copy).fingerprint
    change_weights(copy, lambda t: {k: v.to(dtype) for k, v in t.items()})
    found = Backbone.load(copy)
    assert found.fingerprint == expected
    assert found.read_tensors()["embeddings.LayerNorm.weight"].dtype == torch.float32


def test_one_changed_weight_is_another_backbone(copy: Path) -> None:
    expected = Backbone.load(copy).fingerprint
    key = "encoder.layer.1.output.dense.bias"
    change_weights(copy, lambda t: {**t, key: t[key] + torch.eye(32)[0] * 1e-4})
    assert Backbone.load(copy).fingerprint != expected


def test_the_tokenizer_has_a_fingerprint_of_its_own(copy: Path) -> None:
    before = Backbone.load(copy)
    file = copy / "tokenizer.json"
    file.write_text(file.read_text().replace('"##ing"', '"##ung"'))
    after = Backbone.load(copy)
    assert after.tokenizer_fingerprint != before.tokenizer_fingerprint
    assert after.fingerprint == before.fingerprint


def test_a_cased_tokenizer_is_another_one(copy: Path) -> None:
    before = Backbone.load(copy)
    file = copy / "tokenizer.json"
    text = file.read_text()
    assert '"lowercase": true' in text
    file.write_text(text.replace('"lowercase": true', '"lowercase": false'))
    assert Backbone.load(copy).tokenizer_fingerprint != before.tokenizer_fingerprint


def test_padding_that_a_tokenizer_file_declares_makes_no_other_tokenizer(copy: Path) -> None:
    before = Backbone.load(copy).tokenizer_fingerprint
    tokenizer = Backbone.load(copy).read_tokenizer()
    tokenizer.backend_tokenizer.enable_padding(length=128)
    tokenizer.backend_tokenizer.save(str(copy / "tokenizer.json"))
    assert Backbone.load(copy).tokenizer_fingerprint == before


def test_a_tiny_backbone_of_the_other_family_is_another_backbone(tmp_path: Path, bert: Backbone) -> None:
    other = Backbone.load(tiny_backbone(tmp_path, model_type="roberta", shape=TinyShape(positions=128)))
    assert other.fingerprint != bert.fingerprint
    assert other.tokenizer_fingerprint != bert.tokenizer_fingerprint
