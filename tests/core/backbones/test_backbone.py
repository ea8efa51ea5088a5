from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from onetrunk.core.backbones.backbone import DEFAULT_BACKBONE, Backbone
from onetrunk.core.backbones.repository import OFFLINE_PACKAGE, offline_folder
from onetrunk.core.errors import BackboneError, UnsupportedBackbone, UsageError
from onetrunk.core.testing import TinyShape, tiny_backbone

SUPPORTED = "supported: bert, roberta, xlm-roberta, camembert, electra, distilbert, and more slowly other"
Tensors = dict[str, Tensor]


@pytest.fixture
def copy(bert_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny BERT that a test may spoil."""
    return shutil.copytree(bert_folder, tmp_path / "copy")


def set_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def change_weights(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    file = folder / "model.safetensors"
    tensors = {key: tensor.clone().contiguous() for key, tensor in change(load_file(file)).items()}
    save_file(tensors, file, metadata={"format": "pt"})


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


# What does not load


def test_a_decoder_is_no_encoder(copy: Path) -> None:
    from transformers import GPT2Config

    GPT2Config().save_pretrained(copy)
    with pytest.raises(UnsupportedBackbone, match=f"'gpt2'.*{SUPPORTED}"):
        Backbone.load(copy)


def test_a_bert_that_is_set_up_as_a_decoder_is_no_encoder(copy: Path) -> None:
    set_config(copy, is_decoder=True)
    with pytest.raises(UnsupportedBackbone, match=f"not an encoder, but a decoder; {SUPPORTED}"):
        Backbone.load(copy)


def test_an_unsupported_architecture_is_told_what_is_supported(copy: Path) -> None:
    set_config(copy, model_type="vit")
    with pytest.raises(UnsupportedBackbone, match=f"'vit' is not an encoder .* directions; {SUPPORTED}"):
        Backbone.load(copy)


@pytest.mark.parametrize("model_type", ["t5", "bart"])
def test_an_encoder_with_a_decoder_is_no_encoder(model_type: str, copy: Path) -> None:
    (copy / "config.json").write_text(json.dumps({"model_type": model_type, "is_encoder_decoder": True}))
    with pytest.raises(UnsupportedBackbone, match=f"'{model_type}' is not an encoder, but a decoder"):
        Backbone.load(copy)


def test_relative_positions_are_unsupported(copy: Path) -> None:
    set_config(copy, position_embedding_type="relative_key")
    with pytest.raises(UnsupportedBackbone, match="'relative_key'; supported: absolute"):
        Backbone.load(copy)


def test_an_unknown_activation_is_told_the_known_ones(copy: Path) -> None:
    set_config(copy, hidden_act="silu")
    with pytest.raises(UnsupportedBackbone, match="activation 'silu'; supported: gelu"):
        Backbone.load(copy)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", "config.json is missing"),
        ("model.safetensors", "model.safetensors is missing in .*; only safetensors is read, no pickle"),
        ("tokenizer.json", "no tokenizer files in .*; expected tokenizer.json or a vocabulary"),
    ],
)
def test_a_missing_file_is_named(copy: Path, file: str, message: str) -> None:
    (copy / file).unlink()
    with pytest.raises(BackboneError, match=message):
        Backbone.load(copy)


def test_a_pickle_is_not_read_in_place_of_safetensors(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(BackboneError, match="only safetensors is read, no pickle"):
        Backbone.load(copy)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", "{}"),
        ("config.json", '{"model_type": "bert", "hidden_size": "wide"}'),
        ("model.safetensors", "nonsense"),
        ("model.safetensors", ""),
        ("model.safetensors.index.json", "{"),
        ("model.safetensors.index.json", "[]"),
        ("model.safetensors.index.json", '{"weight_map": {}}'),
        ("model.safetensors.index.json", '{"weight_map": {"a": 7}}'),
        ("model.safetensors.index.json", '{"weight_map": {"a": "../../secret.safetensors"}}'),
        ("tokenizer.json", "{"),
        ("tokenizer.json", "{}"),
        ("tokenizer_config.json", '{"added_tokens_decoder": []}'),
        ("1_Pooling/config.json", "{"),
        ("1_Pooling/config.json", "[]"),
    ],
)
def test_a_broken_file_is_a_backbone_error(copy: Path, file: str, content: str) -> None:
    (copy / file).parent.mkdir(exist_ok=True)
    (copy / file).write_text(content)
    with pytest.raises(BackboneError, match=r"^backbone .*copy: .{10}"):
        Backbone.load(copy)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"])
@pytest.mark.parametrize("content", ["[]", "7", "{"])
def test_a_file_of_the_tokenizer_that_is_no_object_is_named(copy: Path, file: str, content: str) -> None:
    (copy / file).write_text(content)
    with pytest.raises(BackboneError, match=f"{file} (is no JSON object|cannot be read)"):
        Backbone.load(copy)


def test_a_cut_weights_file_is_a_backbone_error(copy: Path) -> None:
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BackboneError, match=r"model.safetensors cannot be read"):
        Backbone.load(copy)


def test_a_missing_weight_is_named(copy: Path) -> None:
    change_weights(copy, lambda t: {k: v for k, v in t.items() if "layer.1" not in k})
    with pytest.raises(BackboneError, match=r"weights are missing: encoder.layer.1.* and \d+ more"):
        Backbone.load(copy)


def test_a_weight_of_another_shape_is_named(copy: Path) -> None:
    set_config(copy, intermediate_size=48)
    with pytest.raises(
        BackboneError, match=r"intermediate.dense.weight has shape \(64, 32\), config.json says \(48"
    ):
        Backbone.load(copy)


@pytest.mark.parametrize(
    ("family", "weight"),
    [("electra", "embeddings_project.bias"), ("distilbert", "transformer.layer.1.ffn.lin2.weight")],
)
def test_a_weight_that_a_family_needs_and_has_not_is_named(
    family: str, weight: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = shutil.copytree(request.getfixturevalue(f"{family}_folder"), tmp_path / "copy")
    change_weights(folder, lambda t: {k: v for k, v in t.items() if k != weight})
    with pytest.raises(BackboneError, match=f"weights are missing: {weight}"):
        Backbone.load(folder)


def test_heads_that_do_not_divide_the_width_are_refused(copy: Path) -> None:
    set_config(copy, num_attention_heads=5)
    with pytest.raises(BackboneError, match=r"32.*5"):
        Backbone.load(copy)


@pytest.mark.parametrize(
    "key",
    [
        "hidden_size",
        "intermediate_size",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "vocab_size",
    ],
)
@pytest.mark.parametrize("count", [0, -1])
def test_an_encoder_of_nothing_is_told_with_the_key(copy: Path, key: str, count: int) -> None:
    set_config(copy, **{key: count})
    with pytest.raises(
        BackboneError, match=rf"config\.json: {key} is {count}; expected a whole number from 1 on"
    ):
        Backbone.load(copy)


@pytest.mark.parametrize(
    ("family", "key"),
    [("distilbert", "n_heads"), ("electra", "num_hidden_layers"), ("deberta", "num_attention_heads")],
)
def test_an_encoder_of_nothing_is_told_with_the_key_of_its_family(
    family: str, key: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = shutil.copytree(request.getfixturevalue(f"{family}_folder"), tmp_path / "copy")
    set_config(folder, **{key: 0})
    with pytest.raises(BackboneError, match=rf"config\.json: {key} is 0; expected a whole number from 1 on"):
        Backbone.load(folder)


@pytest.mark.parametrize("padding", [None, -1])
def test_positions_that_count_from_no_padding_id_are_refused(
    roberta_folder: Path, tmp_path: Path, padding: int | None
) -> None:
    folder = shutil.copytree(roberta_folder, tmp_path / "copy")
    set_config(folder, pad_token_id=padding)
    with pytest.raises(
        BackboneError, match=rf"config\.json: pad_token_id is {padding}; expected a whole number"
    ):
        Backbone.load(folder)


def test_positions_that_leave_no_room_for_a_text_are_refused(copy: Path) -> None:
    name = "embeddings.position_embeddings.weight"
    change_weights(copy, lambda t: {**t, name: t[name][:2]})
    set_config(copy, max_position_embeddings=2)
    with pytest.raises(BackboneError, match=r"max_position_embeddings is 2; expected 3 or more"):
        Backbone.load(copy)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("weight", ["encoder.layer.1.output.dense.bias", "pooler.dense.weight"])
def test_weights_that_are_not_finite_are_named(copy: Path, weight: str, value: float) -> None:
    change_weights(copy, lambda t: {**t, weight: torch.full_like(t[weight], value)})
    with pytest.raises(BackboneError, match=f"numbers that are not finite: {weight}; fetch or convert"):
        Backbone.load(copy)


def test_weights_that_are_not_finite_are_named_where_transformers_runs_them(
    deberta_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(deberta_folder, tmp_path / "copy")
    weight = "encoder.layer.1.output.dense.bias"

    def spoil(tensors: Tensors) -> Tensors:
        (key,) = (key for key in tensors if key.endswith(weight))
        return {**tensors, key: torch.full_like(tensors[key], float("nan"))}

    change_weights(folder, spoil)
    with pytest.raises(BackboneError, match=f"numbers that are not finite: {weight}; fetch or convert"):
        Backbone.load(folder)


def test_a_tokenizer_with_more_tokens_than_the_encoder_is_refused(copy: Path) -> None:
    name = "embeddings.word_embeddings.weight"
    rows = load_file(copy / "model.safetensors")[name].shape[0]
    change_weights(copy, lambda t: {**t, name: t[name][: rows - 10]})
    set_config(copy, vocab_size=rows - 10)
    with pytest.raises(BackboneError, match=f"tokenizer has {rows} tokens, the encoder {rows - 10}"):
        Backbone.load(copy)


def test_a_tokenizer_without_special_tokens_is_refused(copy: Path) -> None:
    file = copy / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in config.items() if k not in ("cls_token", "bos_token")}))
    with pytest.raises(BackboneError, match="tokenizer has no cls token"):
        Backbone.load(copy)


def test_a_folder_has_no_revisions(copy: Path) -> None:
    with pytest.raises(
        BackboneError, match="revision 'main' was asked for, but a local folder has no revisions"
    ):
        Backbone.load(copy, revision="main")


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c", "~/x"])
def test_a_path_that_leads_nowhere_is_told(name: str) -> None:
    with pytest.raises(BackboneError, match="there is no such folder"):
        Backbone.load(name)


def test_a_name_that_is_too_long_for_a_folder_is_told() -> None:
    with pytest.raises(BackboneError, match="it cannot be read: File name too long; expected a folder or"):
        Backbone.load("a" * 5000)


def test_a_folder_within_one_that_may_not_be_entered_is_told(forbidden: Path) -> None:
    with pytest.raises(BackboneError, match="it cannot be read: Permission denied; expected a folder or"):
        Backbone.load(forbidden / "copy")


def test_a_folder_that_may_not_be_entered_is_told(forbidden: Path) -> None:
    with pytest.raises(BackboneError, match=r"config\.json cannot be read: Permission denied"):
        Backbone.load(forbidden)


@pytest.mark.parametrize("name", ["", "what is this?", "two--dashes"])
def test_a_name_that_no_repo_can_have_is_told(name: str) -> None:
    with pytest.raises(BackboneError, match="neither a folder nor a Hub id"):
        Backbone.load(name)


@pytest.mark.parametrize("device", ["tpu9", "mps", "cuda:99"])
def test_a_device_that_is_not_there_is_told(bert_folder: Path, device: str) -> None:
    with pytest.raises(UsageError, match=f"device '{device}'"):
        Backbone.load(bert_folder, device=device)


def test_a_precision_that_is_unknown_is_told(bert_folder: Path) -> None:
    with pytest.raises(UsageError, match="precision 'fp8' is unknown; expected auto, fp32, bf16, int8"):
        Backbone.load(bert_folder, dtype="fp8")


# Processes of their own: what they find is read once, when a module is imported

LOAD = """
import sys
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import BackboneError
try:
    print(Backbone.load(sys.argv[1]).fingerprint)
except BackboneError as error:
    print(f"{type(error).__name__}: {error}")
"""


def load_elsewhere(name: str, **environment: str) -> str:
    line = [sys.executable, "-c", LOAD, name]
    run = subprocess.run(
        line, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=True
    )
    return run.stdout


def test_offline_and_not_cached_says_what_to_do(tmp_path: Path) -> None:
    found = load_elsewhere("some-org/some-bert", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert "BackboneError: backbone some-org/some-bert: it is not in the local cache" in found
    assert "pass a local folder, or go online once" in found


@pytest.mark.skipif(offline_folder() is None, reason="the extra [minilm] is not installed")
def test_a_changed_offline_package_is_refused(tmp_path: Path) -> None:
    folder = offline_folder()
    assert folder is not None
    model = shutil.copytree(folder, tmp_path / OFFLINE_PACKAGE / "model")
    shutil.copy(folder.parent / "__init__.py", tmp_path / OFFLINE_PACKAGE)
    with (model / "model.safetensors").open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    found = load_elsewhere(DEFAULT_BACKBONE, PYTHONPATH=str(tmp_path))
    assert "BackboneError" in found
    assert "upstream has 53aa51172d14" in found
    assert "reinstall the extra [minilm]" in found


def test_a_backbone_in_the_cache_is_found_offline_and_has_one_fingerprint_in_every_process(
    bert_folder: Path, bert: Backbone, tmp_path: Path
) -> None:
    cached = tmp_path / "hub" / "models--some-org--some-bert"
    shutil.copytree(bert_folder, cached / "snapshots" / ("a" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("a" * 40)
    found = load_elsewhere(
        "some-org/some-bert", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path), PYTHONHASHSEED="7"
    )
    assert found.strip() == bert.fingerprint


def test_a_tiny_backbone_of_the_other_family_is_another_backbone(tmp_path: Path, bert: Backbone) -> None:
    other = Backbone.load(tiny_backbone(tmp_path, model_type="roberta", shape=TinyShape(positions=128)))
    assert other.fingerprint != bert.fingerprint
    assert other.tokenizer_fingerprint != bert.tokenizer_fingerprint
