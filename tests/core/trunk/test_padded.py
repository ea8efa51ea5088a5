"""Encoders that transformers runs for us; what they share with the packed ones is tested in test_trunk.py."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from onetrunk.adapters.format.artifact import read_artifact
from onetrunk.adapters.format.peft_format import ROOT, PeftOptions, peft_config, peft_tensors
from onetrunk.adapters.methods.lora import Lora, LowRank, init_lora
from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import BackboneError, UnsupportedBackbone, UsageError
from onetrunk.core.inference.adapter_io import load_adapter
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.trunk.build import trunk_of
from onetrunk.core.trunk.dropout import Dropout, Masks
from onetrunk.core.trunk.packing import pack
from onetrunk.core.trunk.padded import PaddedTrunk

Train = Callable[..., Any]
Texts = Callable[[int], list[str]]
STRONG = {"lr": 0.05, "head_lr": 0.05, "epochs": 3, "patience": 0}


@pytest.fixture(params=["deberta", "modernbert"])
def padded(request: pytest.FixtureRequest) -> Backbone:
    """The tiny backbone of each architecture that is tested in full."""
    found: Backbone = request.getfixturevalue(request.param)
    return found


def some_lora(backbone: Backbone, seed: int, *modules: str) -> Lora:
    generator = torch.Generator().manual_seed(seed)
    shapes = {t: s for t, s in backbone.linear_shapes.items() if not modules or t[1] in modules}
    fresh = init_lora(shapes, 4, 8.0, generator)
    return Lora(
        {
            target: LowRank(own.a, 0.2 * torch.randn(own.b.shape, generator=generator), own.scale)
            for target, own in fresh.updates.items()
        }
    )


def peft_model(backbone: Backbone, lora: Lora) -> Any:
    """PEFT's model with the very weights of `lora`, which must be the only ones that it adapts."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    layout = backbone.family.layout
    config = peft_config(lora, layout, PeftOptions())
    used = {key: config[key] for key in ("r", "lora_alpha", "target_modules")}
    model = get_peft_model(AutoModel.from_pretrained(backbone.name), LoraConfig(**used)).eval()
    parameters = {name.replace(".default.", "."): p for name, p in model.named_parameters() if "lora" in name}
    tensors = peft_tensors(lora, layout, "", {})
    assert parameters.keys() == tensors.keys()
    for name, tensor in tensors.items():
        parameters[name].data.copy_(tensor)
    return model


def test_it_is_run_by_transformers(padded: Backbone, bert: Backbone) -> None:
    assert isinstance(trunk_of(padded), PaddedTrunk)
    assert not isinstance(trunk_of(bert), PaddedTrunk)


def test_every_linear_of_a_layer_can_be_adapted_under_a_name_of_ours(
    deberta: Backbone, modernbert: Backbone
) -> None:
    assert [*deberta.family.layout.modules] == [
        "query", "key", "value", "attention_output", "intermediate", "output"
    ]  # fmt: skip
    assert [*modernbert.family.layout.modules] == ["qkv", "attention_output", "intermediate", "output"]
    assert modernbert.linear_shapes[1, "qkv"] == (96, 32)


@pytest.mark.parametrize("modules", [(), ("attention_output",), ("output", "intermediate")], ids=str)
def test_a_mixed_batch_gives_each_text_what_peft_gives_it_alone(
    padded: Backbone, some_texts: Texts, modules: tuple[str, ...]
) -> None:
    loras = {slot: some_lora(padded, slot, *modules) for slot in (0, 1, 2)}
    texts = [*some_texts(21), "good film " * 30]
    slots = [i % 4 for i in range(22)]  # the last of them has no adapter
    encoded = padded.encoder.encode(texts, [()] * 22)
    packed = pack(encoded, slots)
    with torch.inference_mode():
        mixed = trunk_of(padded).forward(packed, loras)
    for slot in loras:
        model = peft_model(padded, loras[slot])
        for i in (i for i in range(22) if slots[i] == slot):
            ids = torch.from_numpy(encoded[i].windows[0])[None]
            with torch.no_grad():
                expected = model(input_ids=ids).last_hidden_state[0]
            found = mixed[packed.offsets[i] : packed.offsets[i + 1]]
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_mixed_batch_of_peft_gives_the_same_states(modernbert: Backbone, some_texts: Texts) -> None:
    """PEFT mixes adapters in a batch as well, where an architecture has nothing but the texts' rows in a linear."""
    loras = {slot: some_lora(modernbert, slot) for slot in (0, 1)}
    model = peft_model(modernbert, loras[0])
    model.add_adapter("other", model.peft_config["default"])
    named = peft_tensors(loras[1], modernbert.family.layout, "", {})
    for name, parameter in model.named_parameters():
        if ".other." in name:
            parameter.data.copy_(named[name.replace(".other.", ".")])
    texts, slots = some_texts(12), [i % 2 for i in range(12)]
    packed = pack(encoded := modernbert.encoder.encode(texts, [()] * 12), slots)
    lengths = [own.rows for own in encoded]
    ids = torch.zeros(12, max(lengths), dtype=torch.int64)
    for row, own in zip(ids, encoded, strict=True):
        row[: own.rows] = torch.from_numpy(own.windows[0])
    keep = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        names = ["other" if slot else "default" for slot in slots]
        theirs = model(input_ids=ids, attention_mask=keep.long(), adapter_names=names).last_hidden_state[keep]
        ours = trunk_of(modernbert).forward(packed, loras)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_gradients_of_the_adapter_equal_those_of_peft(padded: Backbone) -> None:
    lora = some_lora(padded, 7)
    model = peft_model(padded, lora)
    (text,) = padded.encoder.encode(["the film was very good"], [()])
    model(input_ids=torch.from_numpy(text.windows[0])[None]).last_hidden_state.sin().sum().backward()
    for factor in lora.parameters:
        factor.requires_grad_()
    trunk = trunk_of(padded)
    trunk.forward(pack([text], [0]), {0: lora}).sin().sum().backward()
    theirs = {
        name.replace(".default.", "."): p.grad for name, p in model.named_parameters() if "lora" in name
    }
    for (layer, module), own in lora.updates.items():
        path = f"{ROOT}{padded.family.layout.path(layer, module)}"
        for half, factor in (("A", own.a), ("B", own.b)):
            expected = theirs[f"{path}.lora_{half}.weight"]
            torch.testing.assert_close(factor.grad, expected, rtol=1e-3, atol=1e-5)
    assert all(tensor.grad is None for tensor in trunk.tensors().values())


def test_threads_with_other_adapters_share_one_model(padded: Backbone, some_texts: Texts) -> None:
    trunk, loras = trunk_of(padded), [some_lora(padded, slot) for slot in range(4)]
    packed = pack(padded.encoder.encode(some_texts(20), [()] * 20), [0] * 20)

    def states(lora: Lora) -> Tensor:
        with torch.inference_mode():
            return trunk.forward(packed, {0: lora})

    alone = [states(lora) for lora in loras]
    with ThreadPoolExecutor(4) as threads:
        for found, expected in zip(threads.map(states, loras * 5), alone * 5, strict=True):
            assert torch.equal(found, expected)


def test_an_adapter_of_a_batch_is_gone_after_it(padded: Backbone) -> None:
    trunk, lora = trunk_of(padded), some_lora(padded, 0)
    packed = pack(padded.encoder.encode(["good film"], [()]), [0])
    with torch.inference_mode():
        bare, before = trunk.forward(packed, {}), trunk.checksum()
        assert not torch.equal(trunk.forward(packed, {0: lora}), bare)
        wide = Lora({t: LowRank(u.a[:, :-1], u.b, u.scale) for t, u in lora.updates.items()})
        with pytest.raises(RuntimeError, match="shape"):
            trunk.forward(packed, {0: wide})
        assert torch.equal(trunk.forward(packed, {}), bare)
    assert trunk.checksum() == before


def test_dropout_is_that_of_the_run_and_never_the_models_own(padded: Backbone) -> None:
    trunk, lora = trunk_of(padded), {0: some_lora(padded, 0)}
    packed = pack(padded.encoder.encode(["the film was very good"], [()]), [0])
    with torch.inference_mode(), torch.random.fork_rng():
        plain = trunk.forward(packed, lora)
        torch.manual_seed(0)
        half = Dropout(0.5)
        widths = {
            width: half.draw(torch.Size((packed.tokens, width)), trunk.dtype, trunk.device)
            for width in (32, 64)
        }
        found = trunk.run(trunk.embed(packed), packed, lora, lora_masks=Masks({0: widths}))
        assert not torch.allclose(found, plain)
        assert torch.equal(trunk.forward(packed, lora), plain)


# Training and artifacts


@pytest.mark.parametrize("task", ["ner", "sentiment", "intent"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_what_was_trained_loads_and_the_loss_has_fallen(
    padded: Backbone, train_tiny: Train, tmp_path: Path, task: str, pooling: str
) -> None:
    result = train_tiny(Store(tmp_path), task, padded, pooling=pooling, epochs=6, patience=0)
    losses = [row["loss"] for row in result.run.history]
    assert losses[-1] < losses[0]
    artifact, spec = read_artifact(result.stored.path), PluginHost.discover().task(task)
    assert load_adapter("x@1", artifact, spec, padded, trunk_of(padded)).ref == "x@1"
    assert artifact.manifest.training["targets"] == [*padded.family.layout.modules]


def test_a_module_of_another_architecture_is_told_before_training(
    modernbert: Backbone, train_tiny: Train, tmp_path: Path
) -> None:
    with pytest.raises(
        UsageError, match="the backbone has no module 'query'; known: all, qkv, attention_output"
    ):
        train_tiny(Store(tmp_path), "ner", modernbert, targets=("query",))
    result = train_tiny(Store(tmp_path), "ner", modernbert, targets=("output", "qkv"))
    assert {module for _, module in result.run.trainable.lora.updates} == {"qkv", "output"}


# What else transformers has


def other_encoder(folder: Path, source: Path, model_type: str, **own: Any) -> Path:
    """Write a small random encoder of another architecture, with the tokenizer of `source`."""
    from transformers import AutoConfig, AutoModel

    shutil.copytree(source, folder)
    vocabulary = json.loads((source / "config.json").read_text())["vocab_size"]
    config = AutoConfig.for_model(
        model_type, vocab_size=vocabulary, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64, **{"pad_token_id": 0, **own},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModel.from_config(config)
        for name, weight in model.named_parameters():
            weight.data.copy_(float("norm.weight" in name.lower()) + 0.15 * torch.randn_like(weight))
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("model_type", "own", "tokens"),
    [
        ("mpnet", {"pad_token_id": 1}, 62),
        ("albert", {"embedding_size": 16}, 64),
        ("deberta", {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}, 64),
        ("nomic_bert", {}, 64),
        ("rembert", {"input_embedding_size": 16}, 64),
    ],
)
def test_an_encoder_that_nobody_wrote_down_gives_the_states_of_transformers(
    model_type: str, own: dict[str, Any], tokens: int, bert_folder: Path, some_texts: Texts, tmp_path: Path
) -> None:
    from transformers import AutoModel

    folder = other_encoder(tmp_path / "x", bert_folder, model_type, **own)
    backbone = Backbone.load(folder, device="cpu", dtype="fp32")
    lora = some_lora(backbone, 0)
    models = [AutoModel.from_pretrained(folder).eval(), peft_model(backbone, lora)]
    encoded = backbone.encoder.encode([*some_texts(12), "good film " * 100], [()] * 13)
    slots = [i % 2 for i in range(13)]
    packed = pack(encoded, slots)
    with torch.inference_mode():
        found = trunk_of(backbone).forward(packed, {1: lora})
        for i, text in enumerate(encoded[:-1]):
            expected = models[slots[i]](input_ids=torch.from_numpy(text.windows[0])[None]).last_hidden_state[
                0
            ]
            own_rows = found[packed.offsets[i] : packed.offsets[i + 1]]
            torch.testing.assert_close(own_rows, expected, rtol=0, atol=1e-5)
    assert max(map(len, encoded[-1].windows)) == tokens


def test_a_pretrained_encoder_is_read_from_beside_the_head_it_was_trained_with(
    modernbert: Backbone, modernbert_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(modernbert_folder, tmp_path / "x")
    tensors = {f"model.{name}": tensor for name, tensor in modernbert.read_tensors().items()}
    save_file(
        {**tensors, "head.dense.weight": torch.ones(32, 32)}, folder / "model.safetensors", {"format": "pt"}
    )
    assert Backbone.load(folder, device="cpu", dtype="fp32").fingerprint == modernbert.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: {k: v for k, v in t.items() if "layers.1.mlp" not in k},
            "weights are missing: layers.1.mlp",
        ),
        (lambda t: {**t, "layers.0.mlp.Wi.weight": torch.ones(4, 32)}, "transformers cannot load it"),
    ],
)
def test_weights_that_do_not_fit_are_told(
    change: Callable[[Any], Any], message: str, modernbert: Backbone, modernbert_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(modernbert_folder, tmp_path / "x")
    save_file(change(dict(modernbert.read_tensors())), folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackboneError, match=message):
        Backbone.load(folder)


def test_a_pickle_is_not_read_for_transformers_either(modernbert_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(modernbert_folder, tmp_path / "x")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(BackboneError, match="only safetensors is read, no pickle"):
        Backbone.load(folder)


def test_code_that_comes_with_a_backbone_is_not_run(modernbert_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(modernbert_folder, tmp_path / "x")
    (folder / "foreign.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    maps = {"AutoConfig": "foreign.Config", "AutoModel": "foreign.Model"}
    for model_type in ("modernbert", "their_own"):
        (folder / "config.json").write_text(
            json.dumps({**config, "model_type": model_type, "auto_map": maps})
        )
        if model_type == "modernbert":
            assert Backbone.load(folder).family.model_type == "modernbert"
        else:
            with pytest.raises(UnsupportedBackbone, match=r"config\.json cannot be read"):
                Backbone.load(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("model_type", ["fnet", "convbert"])
def test_an_encoder_whose_states_depend_on_padding_is_refused(
    model_type: str, bert_folder: Path, tmp_path: Path
) -> None:
    folder = other_encoder(tmp_path / "x", bert_folder, model_type)
    with pytest.raises(
        UnsupportedBackbone, match=f"'{model_type}' gives other hidden states in a padded batch"
    ):
        Backbone.load(folder)


LOAD_TWICE = """
import sys
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.trunk.build import trunk_of
for _ in range(2):
    trunk_of(Backbone.load(sys.argv[1]))
"""


def stderr_of(folder: Path) -> Iterator[str]:
    line = [sys.executable, "-c", LOAD_TWICE, str(folder)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
    yield from done.stderr.splitlines()


def test_that_it_is_slower_is_said_once_in_one_line(modernbert_folder: Path, bert_folder: Path) -> None:
    (line,) = stderr_of(modernbert_folder)
    assert line.startswith("modernbert encoders have no packed form: transformers runs this one")
    assert list(stderr_of(bert_folder)) == []
