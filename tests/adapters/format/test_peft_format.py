from __future__ import annotations

import json
from pathlib import Path
from time import process_time
from typing import Any

import pytest
import torch
from torch import Tensor

from onetrunk.adapters.errors import ArtifactError
from onetrunk.adapters.format.peft_format import (
    PeftOptions,
    peft_config,
    peft_tensors,
    read_peft,
    unknown_options,
    with_uniform_rank,
)
from onetrunk.adapters.methods.lora import MODULES, Lora, LowRank, Target
from onetrunk.adapters.methods.target_modules import BERT_LAYOUT
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.trunk.build import trunk_of
from onetrunk.core.trunk.packing import pack

WHERE = Path("an-adapter")
CONFIG: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
A, B = "lora_A.weight", "lora_B.weight"
QUERY = "base_model.model.bert.encoder.layer.0.attention.self.query"


def lora_of(*targets: Target, rank: int = 2) -> Lora:
    return Lora({target: LowRank(torch.randn(rank, 6), torch.randn(8, rank), 2.0) for target in targets})


def config_of(lora: Lora, **options: Any) -> dict[str, Any]:
    given = {"task_type": "TOKEN_CLS", "base_model": "x", "dropout": 0.1}
    return peft_config(lora, BERT_LAYOUT, PeftOptions(**{**given, **options}))


def pair(rank: int = 2) -> dict[str, Tensor]:
    return {f"{QUERY}.{A}": torch.ones(rank, 6), f"{QUERY}.{B}": torch.ones(8, rank)}


@pytest.mark.parametrize("prefix", ["bert.", "roberta.", ""])
def test_what_is_written_is_read_back_bit_for_bit(prefix: str) -> None:
    lora = lora_of(*((layer, module) for layer in (0, 11) for module in MODULES))
    head = {"classifier.weight": torch.randn(3, 8), f"{prefix}pooler.dense.bias": torch.randn(8)}
    written = peft_tensors(lora, BERT_LAYOUT, prefix, head)
    found, rest = read_peft(WHERE, config_of(lora), written, BERT_LAYOUT, prefix)
    assert found.updates.keys() == lora.updates.keys()
    for target, own in lora.updates.items():
        assert torch.equal(found.updates[target].a, own.a)
        assert torch.equal(found.updates[target].b, own.b)
        assert found.updates[target].scale == own.scale
    assert all(torch.equal(rest[key], tensor) for key, tensor in head.items())
    assert rest.keys() == head.keys()


def test_what_is_written_is_float32_whatever_trained() -> None:
    own = LowRank(torch.ones(2, 6).bfloat16().requires_grad_(), torch.ones(8, 2).bfloat16(), 1.0)
    tensors = peft_tensors(
        Lora({(0, "query"): own}), BERT_LAYOUT, "", {"classifier.bias": torch.ones(2).double()}
    )
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert not any(tensor.requires_grad for tensor in tensors.values())


def test_the_config_is_json_that_peft_reads_back(tmp_path: Path) -> None:
    from peft import LoraConfig

    config = config_of(lora_of((0, "query")), modules_to_save=["classifier", "pooler"], revision="abc")
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    found = LoraConfig.from_pretrained(str(tmp_path))
    assert (found.r, found.lora_alpha, found.lora_dropout) == (2, 4.0, 0.1)
    assert (found.base_model_name_or_path, found.revision) == ("x", "abc")
    assert set(found.modules_to_save) == {"classifier", "pooler"}


@pytest.mark.parametrize(
    "targets",
    [
        [(0, "query")],
        [(1, "output")],
        [(1, "attention_output")],
        [(0, "intermediate"), (1, "intermediate")],
        [(1, "query"), (1, "key"), (1, "value")],
        [(layer, module) for layer in (0, 1) for module in MODULES],
    ],
)
@pytest.mark.parametrize("kind", ["AutoModel", "AutoModelForTokenClassification"])
def test_peft_adapts_exactly_the_targets(targets: list[Target], kind: str, bert_folder: Path) -> None:
    import transformers
    from peft import LoraConfig, get_peft_model

    config = {
        k: v for k, v in config_of(lora_of(*targets), task_type=None).items() if k in ("r", "target_modules")
    }
    model = get_peft_model(getattr(transformers, kind).from_pretrained(bert_folder), LoraConfig(**config))
    found = {name for name, _ in model.named_parameters() if "lora_A" in name}
    prefix = "" if kind == "AutoModel" else "bert."
    assert found == {
        f"base_model.model.{prefix}encoder.layer.{layer}.{BERT_LAYOUT.modules[module]}.lora_A.default.weight"
        for layer, module in targets
    }


def test_twelve_layers_are_not_taken_for_the_first_two() -> None:
    from re import fullmatch

    pattern = config_of(lora_of((1, "query")))["target_modules"]
    assert fullmatch(pattern, "bert.encoder.layer.1.attention.self.query")
    assert not fullmatch(pattern, "bert.encoder.layer.11.attention.self.query")
    assert not fullmatch(pattern, "bert.encoder.layer.1.attention.self.key")


@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_that_peft_trained_gives_pefts_hidden_states(
    rslora: bool, bert: Backbone, bert_folder: Path, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file
    from transformers import AutoModel

    torch.manual_seed(0)
    config = LoraConfig(
        r=3,
        lora_alpha=7,
        target_modules=["query", "output.dense"],
        use_rslora=rslora,
        init_lora_weights=False,
    )
    model = get_peft_model(AutoModel.from_pretrained(bert_folder), config).eval()
    model.save_pretrained(str(tmp_path))
    stored = json.loads((tmp_path / "adapter_config.json").read_text())
    lora, rest = read_peft(
        tmp_path, stored, load_file(tmp_path / "adapter_model.safetensors"), BERT_LAYOUT, ""
    )
    (text,) = bert.encoder.encode(["the film was very good"], [()])
    with torch.inference_mode():
        found = trunk_of(bert).forward(pack([text], [0]), {0: lora})
        expected = model(input_ids=torch.from_numpy(text.windows[0])[None]).last_hidden_state[0]
    assert rest == {}
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_rank_stabilised_adapters_are_scaled_by_the_root_of_the_rank() -> None:
    lora, _ = read_peft(WHERE, {**CONFIG, "use_rslora": True}, pair(), BERT_LAYOUT, "bert.")
    assert lora.updates[0, "query"].scale == pytest.approx(4 / 2**0.5)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("use_dora", True),
        ("velora_config", {"x": 1}),
        ("fan_in_fan_out", True),
        ("lora_bias", True),
        ("bias", "lora_only"),
        ("layer_replication", [[0, 2]]),
        ("alora_invocation_tokens", [1, 2]),
        ("trainable_token_indices", [5]),
        ("target_parameters", ["x"]),
        ("use_qalora", True),
        ("use_bdlora", {"nblocks": 2}),
        ("arrow_config", {"top_k": 2}),
        ("monteclora_config", {"x": 1}),
        ("init_lora_weights", "pissa_niter_4"),
        ("init_lora_weights", "olora"),
        ("kasa_config", {"x": 1}),
    ],
)
def test_an_option_that_computes_otherwise_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(ArtifactError, match=f"options that are not supported: {option}="):
        read_peft(WHERE, {**CONFIG, option: value}, pair(), BERT_LAYOUT, "bert.")


def test_another_method_is_refused() -> None:
    with pytest.raises(ArtifactError, match="peft_type is 'IA3', expected 'LORA'"):
        read_peft(WHERE, {**CONFIG, "peft_type": "IA3"}, {}, BERT_LAYOUT, "")


@pytest.mark.parametrize("rank", [0, -1, None, "2", 2.0, True])
def test_a_rank_that_is_no_number_is_refused(rank: Any) -> None:
    with pytest.raises(ArtifactError, match=r"r=.*expected positive numbers"):
        read_peft(WHERE, {**CONFIG, "r": rank}, pair(1), BERT_LAYOUT, "bert.")


@pytest.mark.parametrize("alpha", [None, "4", 0, -2, True])
def test_an_alpha_that_is_no_positive_number_is_refused(alpha: Any) -> None:
    with pytest.raises(ArtifactError, match=r"lora_alpha=.*expected positive numbers"):
        read_peft(WHERE, {**CONFIG, "lora_alpha": alpha}, pair(), BERT_LAYOUT, "bert.")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({f"{QUERY}.{A}": None}, "has only lora_B for layer 0 query"),
        ({f"{QUERY}.{B}": None}, "has only lora_A for layer 0 query"),
        ({f"{QUERY}.{A}": torch.ones(3, 6)}, r"layer 0 query: A is \(3, 6\) and B \(8, 2\), but r is 2"),
        ({f"{QUERY}.{B}": torch.ones(8)}, r"layer 0 query: A is \(2, 6\) and B \(8,\), but r is 2"),
        (
            {QUERY.replace("query", "norm") + "." + A: torch.ones(2, 6)},
            "adapts 'attention.self.norm', which is not a linear module",
        ),
    ],
)
def test_tensors_that_do_not_belong_together_are_refused(change: dict[str, Any], message: str) -> None:
    tensors = {key: tensor for key, tensor in {**pair(), **change}.items() if tensor is not None}
    with pytest.raises(ArtifactError, match=f"an-adapter: .*{message}"):
        read_peft(WHERE, CONFIG, tensors, BERT_LAYOUT, "bert.")


@pytest.mark.parametrize(
    "patterns",
    [
        {"query": 3},
        {"key": 3, "query": 5},
        {"attention.self.query": 3},
        {"elf.query": 3},
        {"^bert.encoder.layer.0.attention.self.query": 3},
        {r".*\.0\..*query": 3},
        {r"layer\.[1-9]\.attention.self.query": 3},
        {"(query|key)": 3, "query": 5},
        {"que": 3},
        {"query$": 3},
        {"bert": 3},
    ],
    ids=str,
)
def test_patterns_are_matched_as_peft_matches_them(patterns: dict[str, int]) -> None:
    from peft.utils.other import get_pattern_key

    path = QUERY.removeprefix("base_model.model.")
    rank = patterns.get(get_pattern_key(list(patterns), path), 2)
    config = {**CONFIG, "rank_pattern": patterns, "alpha_pattern": patterns}
    lora, _ = read_peft(WHERE, config, pair(rank), BERT_LAYOUT, "bert.")
    assert lora.updates[0, "query"].scale == (2.0 if rank == 2 else 1.0)


HARD = "(.|.)*[jz]"
"""A pattern that takes exponential time on the path of a module."""


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("x" * 1025, "has 1025 characters, at most 1024 are read"),
        ("(", "is not a regular expression"),
        ("[", "is not a regular expression"),
        ("a{99999999999999999999}", "is not a regular expression"),
        (r"\p{L}", "is not a regular expression"),  # to `regex` it is one, to PEFT it is not
    ],
)
@pytest.mark.parametrize("option", ["rank_pattern", "alpha_pattern"])
def test_a_pattern_that_cannot_be_read_is_refused(option: str, pattern: str, message: str) -> None:
    with pytest.raises(ArtifactError, match=f"the pattern .* of {option} {message}"):
        read_peft(WHERE, {**CONFIG, option: {pattern: 3}}, pair(), BERT_LAYOUT, "bert.")


def test_a_pattern_that_takes_exponential_time_is_refused_in_bounded_time() -> None:
    started = process_time()
    with pytest.raises(ArtifactError, match=r"the pattern .* of rank_pattern takes too long to match"):
        read_peft(WHERE, {**CONFIG, "rank_pattern": {HARD: 3}}, pair(), BERT_LAYOUT, "bert.")
    assert process_time() - started < 4


def test_many_patterns_share_one_time_limit() -> None:
    started = process_time()
    patterns = {f"({HARD}|{i})": 3 for i in range(100)}
    with pytest.raises(ArtifactError, match="takes too long to match"):
        read_peft(WHERE, {**CONFIG, "rank_pattern": patterns}, pair(), BERT_LAYOUT, "bert.")
    assert process_time() - started < 4


@pytest.mark.parametrize(
    "pattern", [".*.*.*.*query", "(a+)+|query", "(?:[a-z0-9]+\\.)+query", "(?=.*query).*"]
)
def test_a_pattern_that_is_quick_to_match_is_read_however_it_is_written(pattern: str) -> None:
    config = {**CONFIG, "rank_pattern": {pattern: 3}, "alpha_pattern": {pattern: 3}}
    lora, _ = read_peft(WHERE, config, pair(3), BERT_LAYOUT, "bert.")
    assert lora.updates[0, "query"].scale == 1.0


def test_patterns_that_are_no_object_are_refused() -> None:
    with pytest.raises(ArtifactError, match=r"rank_pattern is \[3\], expected an object"):
        read_peft(WHERE, {**CONFIG, "rank_pattern": [3]}, pair(), BERT_LAYOUT, "bert.")


def test_a_pattern_gives_no_rank_that_is_no_number() -> None:
    with pytest.raises(ArtifactError, match=r"r='3'.* for layer 0 query; expected positive numbers"):
        read_peft(WHERE, {**CONFIG, "rank_pattern": {"query": "3"}}, pair(3), BERT_LAYOUT, "bert.")


def test_one_rank_and_scale_change_no_update() -> None:
    lora = Lora(
        {
            (0, "query"): LowRank(torch.randn(2, 6), torch.randn(8, 2), 0.5),
            (1, "query"): LowRank(torch.randn(5, 6), torch.randn(8, 5), 3.0),
        }
    )
    found = with_uniform_rank(lora)
    assert {(own.a.shape[0], own.scale) for own in found.updates.values()} == {(5, 1.0)}
    for target, own in lora.updates.items():
        new = found.updates[target]
        torch.testing.assert_close(new.b @ new.a, own.scale * own.b @ own.a)
    assert config_of(found)["lora_alpha"] == config_of(found)["r"] == 5


def test_updates_of_one_rank_and_scale_stay_as_they_are() -> None:
    lora = lora_of((0, "query"), (1, "key"))
    assert with_uniform_rank(lora) is lora


def test_every_option_of_the_installed_peft_is_known() -> None:
    from peft import LoraConfig

    on = {key: value or "on" for key, value in LoraConfig().to_dict().items()}
    assert unknown_options(on) == []


def test_an_option_of_a_newer_peft_is_told_of_only_where_it_is_on() -> None:
    assert unknown_options({**CONFIG, "use_magic": True, "magic": None, "more": {}}) == ["use_magic=True"]
