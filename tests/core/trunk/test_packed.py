from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from onetrunk.adapters.methods.lora import MODULES, Lora, LowRank, init_lora
from onetrunk.core.backbones.backbone import DEFAULT_BACKBONE, Backbone
from onetrunk.core.backbones.repository import OFFLINE_SHA256, offline_folder
from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.inference.adapter import Adapter, build_head
from onetrunk.core.inference.logits import LogitsRequest, compute_logits
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.testing import TinyShape, tiny_backbone
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.build import build_trunk, trunk_of
from onetrunk.core.trunk.dropout import Masks
from onetrunk.core.trunk.packing import joined, pack
from tests.core.trunk.trunks import packed_trunk

Slots = Callable[[int, int], list[int]]
Texts = Callable[[int], list[str]]
CPU = torch.device("cpu")


def encode(backbone: Backbone, texts: list[str]) -> list[Encoded]:
    return backbone.encoder.encode(texts, [()] * len(texts))


def hidden_states(backbone: Backbone, texts: list[str], trunk: Trunk | None = None) -> list[Tensor]:
    """One (rows, width) a text, all from one packed batch."""
    packed = pack(encode(backbone, texts), [0] * len(texts))
    with torch.inference_mode():
        hidden = (trunk or trunk_of(backbone)).forward(packed, {})
    return list(hidden.split([b - a for a, b in zip(packed.offsets, packed.offsets[1:], strict=False)]))


def transformers_states(folder: Path, texts: list[str]) -> list[Tensor]:
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in texts]


def assert_equal_states(found: list[Tensor], expected: list[Tensor], atol: float) -> None:
    for own, right in zip(found, expected, strict=True):
        torch.testing.assert_close(own, right, rtol=0, atol=atol)


def test_hidden_states_equal_those_of_transformers(backbone: Backbone, some_texts: Texts) -> None:
    texts = some_texts(30)
    expected = transformers_states(Path(backbone.name), texts)
    assert_equal_states(hidden_states(backbone, texts), expected, 1e-5)


@pytest.mark.parametrize("model_type", ["xlm-roberta", "camembert"])
def test_what_is_built_as_roberta_gives_the_states_of_transformers(
    model_type: str, roberta_folder: Path, some_texts: Texts, tmp_path: Path
) -> None:
    folder = shutil.copytree(roberta_folder, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "model_type": model_type, "architectures": None})
    )
    texts = some_texts(30)
    backbone = Backbone.load(folder, dtype="fp32")
    assert backbone.config.model_type == model_type
    assert_equal_states(hidden_states(backbone, texts), transformers_states(folder, texts), 1e-5)


def test_an_electra_as_wide_within_as_its_embeddings_has_no_projection(
    some_texts: Texts, tmp_path: Path
) -> None:
    from transformers import AutoConfig, AutoModel

    folder = tiny_backbone(tmp_path, model_type="electra", shape=TinyShape(positions=128))
    AutoModel.from_config(AutoConfig.from_pretrained(folder, embedding_size=32)).save_pretrained(folder)
    texts, backbone = some_texts(10), Backbone.load(folder, dtype="fp32")
    assert not any("project" in name for name in backbone.shapes)
    assert_equal_states(hidden_states(backbone, texts), transformers_states(folder, texts), 1e-5)


def test_a_text_that_spells_out_a_padding_token_has_the_states_of_transformers(backbone: Backbone) -> None:
    folder, pad = Path(backbone.name), backbone.read_tokenizer().pad_token
    texts = [pad, f"good {pad} film", f"{pad}{pad} good film {pad}", "good film"]
    packed = pack(encode(backbone, texts), [0] * len(texts))
    assert (packed.parts[0].ids == backbone.config.pad_token_id).sum() == 5
    assert_equal_states(hidden_states(backbone, texts), transformers_states(folder, texts), 1e-5)


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh", "relu"])
def test_each_activation_is_that_of_transformers(activation: str, bert_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert_folder, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": activation}))
    texts = ["good film", "the book was awful"]
    found = hidden_states(Backbone.load(folder, dtype="fp32"), texts)
    assert_equal_states(found, transformers_states(folder, texts), 1e-5)


def test_the_path_with_gradients_gives_the_same_states(backbone: Backbone, some_texts: Texts) -> None:
    packed = pack(encode(backbone, some_texts(20)), [0] * 20)
    trunk = trunk_of(backbone)
    with torch.inference_mode():
        expected = trunk.forward(packed, {})
    torch.testing.assert_close(trunk.forward(packed, {}), expected, rtol=0, atol=1e-5)


def test_bf16_is_within_two_percent_of_fp32(backbone: Backbone, some_texts: Texts) -> None:
    texts = some_texts(20)
    exact = torch.cat(hidden_states(backbone, texts))
    half = torch.cat(hidden_states(backbone, texts, trunk_of(backbone, torch.bfloat16)))
    assert half.dtype == torch.bfloat16
    assert float((half - exact).norm() / exact.norm()) < 0.02


def test_a_long_text_is_each_of_its_windows(backbone: Backbone) -> None:
    (text,) = encode(backbone, ["a b c " * 60])
    with torch.inference_mode():
        found = trunk_of(backbone).forward(pack([text], [0]), {})
        windows = [trunk_of(backbone).forward(pack([_alone(text, ids)], [0]), {}) for ids in text.windows]
    expected = torch.stack([windows[w][r] for w, r in zip(text.join_window, text.join_row, strict=True)])
    expected[0] = torch.stack([window[0] for window in windows]).mean(0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def _alone(text: Encoded, ids: Any) -> Encoded:
    rows = torch.arange(len(ids)).numpy()
    return Encoded((ids,), rows * 0, rows, rows[:0], text.first_position)


def random_lora(backbone: Backbone, rank: int, targets: tuple[str, ...], layers: range, seed: int) -> Lora:
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        (layer, module): shape
        for (layer, module), shape in backbone.linear_shapes.items()
        if layer in layers and module in targets
    }
    fresh = init_lora(shapes, rank, 2.0 * rank, generator)
    return Lora(
        {
            target: LowRank(own.a, 0.1 * torch.randn(own.b.shape, generator=generator), own.scale)
            for target, own in fresh.updates.items()
        }
    )


def some_adapters(backbone: Backbone) -> list[Adapter]:
    """Twelve adapters of three tasks: ranks 4, 8, 16, four sets of targets, one of them empty."""
    host, adapters = PluginHost.discover(), []
    everywhere, last = range(backbone.layers), range(backbone.layers - 1, backbone.layers)
    shapes = [
        (("query", "value"), everywhere),
        (MODULES, everywhere),
        (("output", "attention_output"), last),
        ((), last),
    ]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for i in range(12):
            task = ("ner", "sentiment", "intent")[i % 3]
            pooling, labels = ("cls", "mean")[i % 2], tuple(f"B-{n}" for n in range(2 + i))
            targets, layers = shapes[i % 4]
            lora = random_lora(backbone, (4, 8, 16)[i // 4], targets, layers, seed=i)
            head = build_head(host.task(task), backbone, labels, pooling).eval()  # type: ignore[arg-type]
            adapters.append(Adapter(f"a@{i}", host.task(task), labels, pooling, lora, head, {}))  # type: ignore[arg-type]
    return adapters


def jobs_of(
    backbone: Backbone, adapters: list[Adapter], texts: list[str], slots: list[int]
) -> list[LogitsRequest]:
    words = [adapters[slot].spec.unlabelled(text).words for text, slot in zip(texts, slots, strict=True)]
    return [
        LogitsRequest(own, slot)
        for own, slot in zip(backbone.encoder.encode(texts, words), slots, strict=True)
    ]


def test_a_mixed_batch_gives_each_text_what_it_gets_alone(
    backbone: Backbone, some_texts: Texts, slots: Slots
) -> None:
    adapters, trunk = some_adapters(backbone), trunk_of(backbone)
    jobs = jobs_of(backbone, adapters, [*some_texts(39), "a b c " * 60], slots(40, len(adapters)))
    mixed = compute_logits(trunk, adapters, jobs, batch_tokens=10**9)
    for job, found in zip(jobs, mixed, strict=True):
        (alone,) = compute_logits(trunk, [adapters[job.slot]], [LogitsRequest(job.encoded, 0)])
        torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(alone), rtol=0, atol=1e-5)


def test_each_mix_gives_the_hidden_states_that_each_text_gets_alone(
    backbone: Backbone, some_texts: Texts, slots: Slots
) -> None:
    trunk, texts, own = trunk_of(backbone), some_texts(30), slots(30, 12)
    loras = {
        i: adapter.lora for i, adapter in enumerate(some_adapters(backbone)) if i % 5
    }  # some slots have none
    encoded = encode(backbone, texts)
    packed = pack(encoded, own)
    with torch.inference_mode():
        mixed = trunk.forward(packed, loras)
        for i, text in enumerate(encoded):
            alone = trunk.forward(pack([text], [own[i]]), loras)
            found = mixed[packed.offsets[i] : packed.offsets[i + 1]]
            torch.testing.assert_close(found, alone, rtol=0, atol=1e-5)


def test_parts_give_the_states_and_the_gradients_of_the_whole(backbone: Backbone, some_texts: Texts) -> None:
    texts, slots = encode(backbone, [*some_texts(6), "a b c " * 200]), [0, 1, 2, 0, 1, 2, 1]
    trunk, generator = trunk_of(backbone), torch.Generator().manual_seed(0)
    loras = {i: adapter.lora for i, adapter in enumerate(some_adapters(backbone)[:2])}
    factors = [factor.requires_grad_() for lora in loras.values() for factor in lora.parameters]
    rows = [
        sum(text.tokens for text, own in zip(texts, slots, strict=True) if own == slot) for slot in (0, 1)
    ]
    widths = {shape[1] for shape in backbone.linear_shapes.values()}
    drawn = {
        slot: {width: (torch.rand(rows[slot], width, generator=generator) < 0.8).float() for width in widths}
        for slot in (0, 1)
    }
    found = []
    for most in (None, 100):
        packed = pack(texts, slots, most)
        hidden = trunk.run(trunk.embed(packed), packed, loras, lora_masks=Masks(drawn))
        gradients = torch.autograd.grad(joined(hidden, packed).sin().sum(), factors)
        assert (len(packed.parts) == 1) == (most is None)
        found.append([joined(hidden, packed), *gradients])
    whole, parts = found
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)


def test_batches_of_any_size_give_the_same_logits(backbone: Backbone, some_texts: Texts) -> None:
    adapters, trunk = some_adapters(backbone), trunk_of(backbone)
    jobs = jobs_of(backbone, adapters, some_texts(24), [i % 12 for i in range(24)])
    first, *others = (compute_logits(trunk, adapters, jobs, budget) for budget in (1, 40, 300))
    for other in others:
        assert_equal_states([*map(torch.from_numpy, other)], [*map(torch.from_numpy, first)], 1e-5)


def test_progress_counts_every_job_once(bert: Backbone, some_texts: Texts) -> None:
    adapters, done = some_adapters(bert), list[int]()
    jobs = jobs_of(bert, adapters, some_texts(24), [i % 12 for i in range(24)])
    compute_logits(trunk_of(bert), adapters, jobs, 40, done.append)
    assert sum(done) == 24


def test_a_fresh_adapter_changes_no_bit(backbone: Backbone, some_texts: Texts) -> None:
    packed = pack(encode(backbone, some_texts(10)), [0] * 10)
    fresh = init_lora(backbone.linear_shapes, 8, 16.0)
    trunk = trunk_of(backbone)
    with torch.inference_mode():
        assert torch.equal(trunk.forward(packed, {0: fresh}), trunk.forward(packed, {}))


def test_gradients_reach_the_adapter_and_never_the_trunk(backbone: Backbone) -> None:
    trunk = trunk_of(backbone)
    lora = random_lora(backbone, 4, MODULES, range(backbone.layers), seed=0)
    for factor in lora.parameters:
        factor.requires_grad_()
    packed = pack(encode(backbone, ["good film", "bad"]), [0, 0])
    trunk.forward(packed, {0: lora}).pow(3).sum().backward()
    assert all(factor.grad is not None and bool(factor.grad.any()) for factor in lora.parameters)
    assert not any(tensor.requires_grad for tensor in trunk.tensors().values())
    assert all(tensor.grad is None for tensor in trunk.tensors().values())


def test_gradients_of_the_adapter_equal_those_of_grafted_linear_layers(
    bert: Backbone, bert_folder: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    config = LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value", "intermediate.dense"])
    model = get_peft_model(AutoModel.from_pretrained(bert_folder), config).eval()
    lora = random_lora(bert, 4, ("query", "value", "intermediate"), range(bert.layers), seed=3)
    theirs = {name: p for name, p in model.named_parameters() if p.requires_grad}
    paths = {
        "query": "attention.self.query",
        "value": "attention.self.value",
        "intermediate": "intermediate.dense",
    }
    ours = {}
    for (layer, module), own in lora.updates.items():
        for half, factor in (("A", own.a), ("B", own.b)):
            name = f"base_model.model.encoder.layer.{layer}.{paths[module]}.lora_{half}.default.weight"
            theirs[name].data.copy_(factor)
            ours[name] = factor.requires_grad_()
    assert ours.keys() == theirs.keys()
    (text,) = encode(bert, ["the film was very good"])
    expected = model(input_ids=torch.from_numpy(text.windows[0])[None]).last_hidden_state
    expected.sin().sum().backward()
    trunk_of(bert).forward(pack([text], [0]), {0: lora}).sin().sum().backward()
    for name, factor in ours.items():
        torch.testing.assert_close(factor.grad, theirs[name].grad, rtol=1e-3, atol=1e-5)


def test_the_checksum_tells_one_changed_bit(bert: Backbone) -> None:
    trunk = packed_trunk(bert)
    before = trunk.checksum()
    assert build_trunk(bert, torch.float32).checksum() == before
    copy = deepcopy(trunk)
    copy.layers[-1].output_norm.bias[0] += 1e-6
    assert copy.checksum() != before == trunk.checksum()


REAL_TEXTS = (
    "Ada Lovelace wrote to Charles Babbage from London on Tuesday.",
    "not good",
    "",
    "¿Dónde está mi pedido nº 42? 東京 🙂 — naïve, résumé, don't!",
    "The quick brown fox jumps over the lazy dog. " * 20,
)


@pytest.fixture(scope="module")
def minilm() -> Backbone:
    if offline_folder() is None:
        pytest.skip("the extra [minilm] is not installed")
    return Backbone.load(DEFAULT_BACKBONE, device="cpu", dtype="fp32")


def test_minilm_has_six_layers_of_384_and_pools_by_the_mean(minilm: Backbone) -> None:
    assert (minilm.layers, minilm.hidden_size, minilm.pooling) == (6, 384, "mean")
    assert minilm.name == DEFAULT_BACKBONE


def test_the_file_of_minilm_is_the_upstream_one() -> None:
    assert OFFLINE_SHA256 == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_the_states_of_minilm_equal_those_of_transformers(minilm: Backbone) -> None:
    folder = offline_folder()
    assert folder is not None
    texts = list(REAL_TEXTS)
    assert_equal_states(hidden_states(minilm, texts), transformers_states(folder, texts), 2e-5)


def test_bf16_is_within_two_percent_on_minilm(minilm: Backbone) -> None:
    exact = torch.cat(hidden_states(minilm, list(REAL_TEXTS)))
    half = torch.cat(hidden_states(minilm, list(REAL_TEXTS), trunk_of(minilm, torch.bfloat16)))
    assert float((half - exact).norm() / exact.norm()) < 0.02
