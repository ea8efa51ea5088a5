"""Backbones that do not load."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import BackboneError, UnsupportedBackbone, UsageError
from tests.core.backbones.changes import Tensors, change_weights, set_config

SUPPORTED = "supported: bert, roberta, xlm-roberta, camembert, electra, distilbert, and more slowly other"


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
    with pytest.raises(BackboneError, match=f"{file} (is not a JSON object|cannot be read)"):
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
