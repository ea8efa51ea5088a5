"""Adapters of plain PEFT to import, sound and spoilt."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from onetrunk.adapters.format.manifest import Manifest
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.adapters.store.version_index import Origin
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.inference.adapter_io import load_adapter
from onetrunk.core.inference.logits import LogitsRequest, compute_logits, encode_examples
from onetrunk.core.interop.import_peft import import_peft
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
    given = {"labels": LABELS.get(task), **options}
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


# labels
def write_model_config(folder: Path, labels: Sequence[str]) -> None:
    (folder / "config.json").write_text(json.dumps({"id2label": dict(enumerate(labels))}))


def yaml_bomb() -> str:
    """A card of a few lines whose metadata stand for 10^11 entries."""
    lines = [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 12)]
    return "\n".join(["---", "a0: &a0 {x: y}", *lines, "labels: [a, b, c, d, e]", "---", ""])


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
