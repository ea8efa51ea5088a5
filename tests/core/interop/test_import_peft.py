"""Adapters that plain PEFT made: what is stored answers as PEFT does, and what cannot be is refused by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, load_file, save

from onetrunk.adapters.errors import ArtifactError, OneTrunkError
from onetrunk.adapters.format.manifest import Manifest
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.adapters.store.version_index import Origin
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import AdapterRejected, UnsupportedBackbone, UsageError
from onetrunk.core.inference.adapter_io import load_adapter
from onetrunk.core.inference.logits import LogitsRequest, compute_logits, encode_examples
from onetrunk.core.interop.import_peft import base_of, import_peft
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.training.manifest_builder import Destination
from onetrunk.core.trunk.build import trunk_of

Texts = Callable[[int], list[str]]
Make = Callable[..., Any]

HOST = PluginHost.discover()
LABELS = {"ner": ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"), "sentiment": ("bad", "fine", "good")}
KINDS = {
    "ner": ("AutoModelForTokenClassification", "TOKEN_CLS"),
    "sentiment": ("AutoModelForSequenceClassification", "SEQ_CLS"),
}
MODULES = {
    "distilbert": ["q_lin", "v_lin", "lin1"],
    "deberta": ["query_proj", "value_proj", "intermediate.dense"],
}
QUERY = "base_model.model.bert.encoder.layer.0.attention.self.query"


def peft_adapter(folder: Path, backbone: Backbone, task: str, **options: Any) -> Any:
    """Train an adapter for a few steps with plain transformers and PEFT, save it to `folder`; return the model."""
    import transformers
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    kind, task_type = KINDS[task]
    base = getattr(transformers, kind).from_pretrained(backbone.name, num_labels=len(LABELS[task]))
    family = backbone.family.style
    given = {
        "r": 8,
        "lora_alpha": 16,
        "target_modules": MODULES.get(family, ["query", "value", "intermediate.dense"]),
        "task_type": task_type,
        "init_lora_weights": False,
    }
    model = get_peft_model(base, LoraConfig(**{**given, **options}))
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    ids = torch.randint(5, 50, (4, 6))
    labels = torch.randint(0, 3, (4, 6) if task == "ner" else (4,))
    for _ in range(3):
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(str(folder))
    return model.eval()


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return (backbone, task, **options of LoraConfig) → a folder that PEFT wrote, and its model."""

    def call(backbone: Backbone, task: str = "ner", **options: Any) -> tuple[Path, Any]:
        folder = tmp_path / "plain"
        return folder, peft_adapter(folder, backbone, task, **options)

    return call


@pytest.fixture(scope="session")
def plain(bert: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that PEFT wrote, an adapter of words; only to be copied from."""
    folder = tmp_path_factory.mktemp("peft") / "plain"
    peft_adapter(folder, bert, "ner")
    return folder


@pytest.fixture
def copied(plain: Path, tmp_path: Path) -> Path:
    """A copy of `plain` to be spoilt."""
    folder = tmp_path / "copied"
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).write_bytes((plain / name).read_bytes())
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def taken(
    folder: Path,
    backbone: Backbone,
    store: Store,
    task: str = "ner",
    *,
    name: str = "x",
    origin: Origin | None = None,
    **options: Any,
) -> StoredVersion:
    given = {"labels": LABELS[task], **options}
    return import_peft(folder, HOST.task(task), backbone, Destination(HOST, store, name, origin), **given)


def manifest_of(stored: StoredVersion) -> Manifest:
    return stored.read().manifest


def check_equal(
    stored: StoredVersion, model: Any, backbone: Backbone, task: str, texts: Sequence[str]
) -> None:
    """Compare the stored adapter's logits with those of PEFT's model."""
    from transformers import AutoTokenizer

    spec, trunk = HOST.task(task), trunk_of(backbone)
    adapter = load_adapter("x@1", stored.read(), spec, backbone, trunk)
    examples = [spec.unlabelled(text) for text in texts]
    jobs = [LogitsRequest(own, 0) for own in encode_examples(backbone.encoder, spec, examples)]
    ours = compute_logits(trunk, [adapter], jobs)
    batch = AutoTokenizer.from_pretrained(backbone.name)(list(texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        with model.disable_adapter():
            bare = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert float((logits - bare).abs().max()) > 0.01  # else the updates would have changed nothing
    for i, (example, own) in enumerate(zip(examples, ours, strict=True)):
        first = [batch.char_to_token(i, start) for start, _ in example.words]
        theirs = logits[i, first] if task == "ner" else logits[i : i + 1]
        np.testing.assert_allclose(own, theirs.numpy(), rtol=0, atol=1e-4)


PATTERNS = {
    "rank_pattern": {r"layer\.0\..*query": 3, "value": 12},
    "alpha_pattern": {
        "query": 4,
        r"^bert\.encoder\.layer\.1.*value": 40,
        "roberta.encoder.layer.1.attention.self.value": 9,
    },
}


@pytest.mark.parametrize(
    "options",
    [{}, PATTERNS, {"use_rslora": True}, {**PATTERNS, "use_rslora": True}, {"layers_to_transform": [1]}],
    ids=["r=8", "patterns", "rslora", "patterns and rslora", "one layer"],
)
@pytest.mark.parametrize("task", ["ner", "sentiment"])
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_an_adapter_of_plain_peft_answers_as_peft_does(
    family: str,
    task: str,
    options: dict[str, Any],
    make: Make,
    store: Store,
    some_texts: Texts,
    request: pytest.FixtureRequest,
) -> None:
    backbone: Backbone = request.getfixturevalue(family)
    folder, model = make(backbone, task, **options)
    check_equal(taken(folder, backbone, store, task), model, backbone, task, some_texts(20))


@pytest.mark.parametrize(
    ("family", "task", "options"),
    [
        ("electra", "ner", {}),
        ("electra", "sentiment", {}),
        ("distilbert", "ner", {}),
        ("distilbert", "sentiment", {"modules_to_save": ["pre_classifier"]}),
        ("deberta", "ner", {}),
        ("deberta", "sentiment", {"modules_to_save": ["pooler"]}),
    ],
)
def test_other_families_answer_as_peft_does(
    family: str,
    task: str,
    options: dict[str, Any],
    make: Make,
    store: Store,
    some_texts: Texts,
    request: pytest.FixtureRequest,
) -> None:
    backbone: Backbone = request.getfixturevalue(family)
    folder, model = make(backbone, task, **options)
    check_equal(taken(folder, backbone, store, task), model, backbone, task, some_texts(10))


@pytest.mark.parametrize(
    "options", [{"target_modules": ["query", "dense"]}, {"modules_to_save": ["pooler"]}], ids=str
)
def test_what_was_trained_of_the_pooler_comes_along(
    options: dict[str, Any], bert: Backbone, make: Make, store: Store, some_texts: Texts
) -> None:
    folder, model = make(bert, "sentiment", **options)
    assert any("pooler" in key for key in load_file(folder / "adapter_model.safetensors"))
    check_equal(taken(folder, bert, store, "sentiment"), model, bert, "sentiment", some_texts(10))


def test_what_is_stored_loads_into_plain_peft_again(
    bert: Backbone, make: Make, store: Store, some_texts: Texts
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForTokenClassification

    folder, _ = make(bert, **PATTERNS)
    stored = taken(folder, bert, store)
    base = AutoModelForTokenClassification.from_pretrained(bert.name, num_labels=len(LABELS["ner"]))
    check_equal(stored, PeftModel.from_pretrained(base, str(stored.path)).eval(), bert, "ner", some_texts(10))


def test_what_nobody_knows_of_the_training_is_not_invented(
    copied: Path, bert: Backbone, store: Store
) -> None:
    origin = Origin("org/repo", "0" * 40, "main")
    stored = taken(copied, bert, store, origin=origin)
    manifest = manifest_of(stored)
    assert (manifest.data, manifest.metrics, manifest.parent, manifest.settings) == ({}, {}, None, {})
    assert manifest.training["imported"]["r"] == 8
    assert bert.name not in json.dumps(manifest.to_json())
    assert (stored.origin, manifest.method, manifest.head) == (origin, "lora", "peft")


def test_the_base_model_is_the_one_that_peft_names(copied: Path, bert: Backbone) -> None:
    assert base_of(copied) == (bert.name, None)
    (copied / "adapter_config.json").write_text("{}")
    assert base_of(copied) == (None, None)


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
            r"weights of neither updates nor a head: bert\.e.* stays frozen",
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
    with pytest.raises(UnsupportedBackbone, match="transformers' heads for modernbert are not ours"):
        taken(copied, modernbert, store)


def test_an_adapter_for_another_kind_of_task_is_refused(copied: Path, bert: Backbone, store: Store) -> None:
    with pytest.raises(UsageError, match="task_type is 'TOKEN_CLS', task 'sentiment' needs SEQ_CLS"):
        taken(copied, bert, store, "sentiment")


def test_an_adapter_without_a_head_is_refused(bert: Backbone, make: Make, copied: Path, store: Store) -> None:
    edit_tensors(
        copied, {key: None for key in load_file(copied / "adapter_model.safetensors") if "lora" not in key}
    )
    with pytest.raises(ArtifactError, match="has no classifier"):
        taken(copied, bert, store)


# labels


def write_model_config(folder: Path, labels: Sequence[str]) -> None:
    (folder / "config.json").write_text(json.dumps({"id2label": dict(enumerate(labels))}))


def yaml_bomb() -> str:
    """A card of a few lines whose metadata stand for 10^11 entries."""
    lines = [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 12)]
    return "\n".join(["---", "a0: &a0 {x: y}", *lines, "labels: [a, b, c, d, e]", "---", ""])


def test_labels_are_read_off_the_configuration_beside_the_adapter(
    copied: Path, bert: Backbone, store: Store
) -> None:
    write_model_config(copied, LABELS["ner"])
    (copied / "README.md").write_text("---\nlabels: [a, b, c, d, e]\n---\n")
    assert manifest_of(taken(copied, bert, store, labels=None)).labels == LABELS["ner"]


@pytest.mark.parametrize(
    "metadata",
    ["labels: [O, B-PER, I-PER, B-LOC, I-LOC]", "id2label: {0: O, 1: B-PER, 2: I-PER, 3: B-LOC, 4: I-LOC}"],
)
def test_labels_are_read_off_the_metadata_of_the_card(
    metadata: str, copied: Path, bert: Backbone, store: Store
) -> None:
    (copied / "README.md").write_text(f"---\nlibrary_name: peft\n{metadata}\n---\n\n# a card\n")
    assert manifest_of(taken(copied, bert, store, labels=None)).labels == LABELS["ner"]


def test_given_labels_count_first(copied: Path, bert: Backbone, store: Store) -> None:
    write_model_config(copied, ("O", "B-A", "I-A", "B-B", "I-B"))
    assert manifest_of(taken(copied, bert, store)).labels == LABELS["ner"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _folder: None,
        lambda folder: write_model_config(folder, [f"LABEL_{i}" for i in range(5)]),
        lambda folder: write_model_config(folder, ["O", "B-X"]),
        lambda folder: (folder / "config.json").write_text('{"id2label": {"0": 1}}'),
        lambda folder: (folder / "README.md").write_text("---\n: [\n---\n"),
        lambda folder: (folder / "README.md").write_text("no metadata"),
        lambda folder: (folder / "README.md").write_text(yaml_bomb()),
    ],
    ids=["nothing", "placeholders", "too few", "numbers", "broken card", "plain card", "bomb"],
)
def test_labels_that_nobody_says_are_asked_for_with_their_number(
    spoil: Callable[[Path], object], copied: Path, bert: Backbone, store: Store
) -> None:
    spoil(copied)
    with pytest.raises(UsageError, match="what its 5 labels are: give --labels"):
        taken(copied, bert, store, labels=None)


@pytest.mark.parametrize(
    "metadata",
    [": [", "when: 2026-99-99", "[" * 5_000, f"n: {'9' * 5_000}"],
    ids=["form", "date", "depth", "number"],
)
def test_a_card_whose_metadata_cannot_be_read_is_said(
    metadata: str, copied: Path, bert: Backbone, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    (copied / "README.md").write_text(f"---\n{metadata}\n---\n")
    with pytest.raises(UsageError, match="give --labels"):
        taken(copied, bert, store, labels=None)
    assert any(
        "README.md cannot be read, no labels are taken from it" in message for message in caplog.messages
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("O", "B-X"), "--labels has 2 labels, the adapter's head is for 5"),
        (("O", "O", "B-X", "I-X", "B-Y"), "--labels: labels has duplicates"),
        (("", "O", "B-X", "I-X", "B-Y"), "--labels: labels has '', which is no label"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    labels: tuple[str, ...], message: str, copied: Path, bert: Backbone, store: Store
) -> None:
    with pytest.raises(UsageError, match=message):
        taken(copied, bert, store, labels=labels)
    assert store.names() == []


# hostile and broken folders


def edit_tensors(folder: Path, changes: dict[str, Any]) -> None:
    file = folder / "adapter_model.safetensors"
    tensors = {**load(file.read_bytes()), **changes}
    file.write_bytes(save({key: tensor for key, tensor in tensors.items() if tensor is not None}))


def edit_config(folder: Path, **changes: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def replace_by_link(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.rename(folder.parent / "elsewhere")
    file.symlink_to(folder.parent / "elsewhere")


def replace_by_pipe(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()
    os.mkfifo(folder / "adapter_config.json")


def leave_a_pickle(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def write_config(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "adapter_config.json").write_text(text)


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
        (lambda f: edit_config(f, use_magic=7), "options that this version does not know: use_magic=7"),
        (lambda f: edit_config(f, r=4), r"A is \(8, 32\) and B .*, but r is 4"),
        (lambda f: edit_config(f, target_modules=["query", "key", "value", "intermediate.dense"]),
         "targets layer 0 key, but adapter_model.safetensors has no update of it"),
        (lambda f: (f / "adapter_model.safetensors").write_bytes(b"x" * 100), "is not a safetensors file"),
        (lambda f: edit_tensors(f, {f"{QUERY}.lora_A.weight": torch.full((8, 32), torch.nan)}), "are not finite"),
        (lambda f: edit_tensors(f, {f"{QUERY}.lora_B.weight": None}), "has only lora_A for layer 0 query"),
        (lambda f: edit_tensors(f, {"base_model.model.bert.embeddings.LayerNorm.weight": torch.ones(32)}),
         "weights of neither updates nor a head: bert.embeddings.LayerNorm.weight"),
        (lambda f: edit_tensors(f, {"x": torch.ones(1)}), "weights of neither updates nor a head: x;"),
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
            "layer 7 query has shape .*, the backbone has no such layer",
        ),
        (
            {f"{QUERY}.lora_A.weight": torch.ones(8, 16)},
            r"layer 0 query has shape \(32, 16\), the backbone has \(32, 32\)",
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
