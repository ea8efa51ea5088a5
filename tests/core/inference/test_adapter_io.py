from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from onetrunk.adapters.format.artifact import Artifact, read_artifact
from onetrunk.adapters.format.manifest import Probe
from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import AdapterRejected, BackboneMismatch, HashMismatch, OneTrunkError
from onetrunk.core.inference.adapter_io import load_adapter, probe_logits
from onetrunk.core.inference.logits import LogitsRequest, compute_logits, encode_examples
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Example, TaskSpec
from onetrunk.core.testing import TinyShape, tiny_backbone
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.build import trunk_of

Train = Callable[..., Any]
Texts = Callable[[int], list[str]]
STRONG = {"lr": 0.05, "head_lr": 0.05, "epochs": 3, "patience": 0}  # so that the updates are far from zero


def spec_of(artifact: Artifact) -> TaskSpec:
    return PluginHost.discover().task(artifact.manifest.task)


def load(
    artifact: Artifact, backbone: Backbone, trunk: Trunk | None = None, spec: TaskSpec | None = None
) -> Any:
    return load_adapter("x@1", artifact, spec or spec_of(artifact), backbone, trunk or trunk_of(backbone))


def our_logits(artifact: Artifact, backbone: Backbone, examples: list[Example]) -> list[np.ndarray]:
    adapter = load(artifact, backbone)
    encoded = encode_examples(backbone.encoder, adapter.spec, examples)
    return compute_logits(
        trunk_of(backbone),
        [adapter],
        [LogitsRequest(own, 0) for own in encoded],
        batch_tokens=400,
    )


def plain_model(artifact: Artifact, folder: Path) -> tuple[Any, Any]:
    import transformers
    from peft import PeftModel

    kinds = {"TOKEN_CLS": "AutoModelForTokenClassification", "SEQ_CLS": "AutoModelForSequenceClassification"}
    kind = getattr(transformers, kinds[str(artifact.adapter_config["task_type"])])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # PEFT warns of keys that are missing
        model = PeftModel.from_pretrained(
            kind.from_pretrained(folder, num_labels=len(artifact.manifest.labels)), str(artifact.path)
        )
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(params=["bert", "roberta", "electra", "distilbert", "deberta"])
def with_known_heads(request: pytest.FixtureRequest) -> Backbone:
    """The tiny backbones of which transformers has models with heads that are ours."""
    found: Backbone = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"layers": "last-1", "targets": ("query", "value")},
        {"targets": ("output",), "alpha": 10.0, "rank": 3},
        {"targets": ("attention_output", "intermediate")},
        {"method": "head"},
    ],
    ids=["all", "last-1 query value", "output", "attention_output intermediate", "head"],
)
@pytest.mark.parametrize("task", ["ner", "sentiment"])
def test_plain_transformers_and_peft_give_our_logits(
    train_tiny: Train,
    with_known_heads: Backbone,
    some_texts: Texts,
    tmp_path: Path,
    task: str,
    settings: dict[str, Any],
) -> None:
    backbone = with_known_heads
    result = train_tiny(Store(tmp_path), task, backbone, pooling="cls", **{**STRONG, **settings})
    artifact = read_artifact(result.stored.path)
    model, tokenizer = plain_model(artifact, Path(backbone.name))
    examples = [spec_of(artifact).unlabelled(text) for text in some_texts(50)]
    ours = our_logits(artifact, backbone, examples)
    assert max(float(np.abs(own).max(initial=0)) for own in ours) > 0.01
    batch = tokenizer([example.text for example in examples], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits
    for i, (example, own) in enumerate(zip(examples, ours, strict=True)):
        first = [batch.char_to_token(i, start) for start, _ in example.words]
        theirs = logits[i, first] if task == "ner" else logits[i : i + 1]
        np.testing.assert_allclose(own, theirs.numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "settings", [{}, {"layers": "last-1"}, {"method": "head"}], ids=["all", "last-1", "head"]
)
def test_the_lines_on_the_card_of_a_mean_head_give_our_logits(
    train_tiny: Train,
    backbone: Backbone,
    some_texts: Texts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
) -> None:
    stored = train_tiny(
        Store(tmp_path / "store"), "sentiment", backbone, pooling="mean", **{**STRONG, **settings}
    ).stored
    artifact = read_artifact(stored.path)
    (code,) = re.findall(r"```python\n(.*?)```", (stored.path / "README.md").read_text(), re.DOTALL)
    # The card names a local backbone by its folder and stands in the artifact's: put both into one place.
    place = shutil.copytree(stored.path, tmp_path / "place")
    shutil.copytree(backbone.name, place / artifact.manifest.backbone.name)
    monkeypatch.chdir(place)
    examples = [Example(text) for text in some_texts(50)]
    loading, using = code.split("with torch.no_grad():")
    names: dict[str, Any] = {}
    exec(loading, names)
    for example, own in zip(examples, our_logits(artifact, backbone, examples), strict=True):
        names["text"] = example.text
        exec(f"with torch.no_grad():{using}", names)
        np.testing.assert_allclose(own[0], names["logits"].numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@pytest.mark.parametrize("task", ["ner", "sentiment"])
def test_the_lines_on_the_card_of_other_heads_run_too(
    train_tiny: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    family: str,
    request: pytest.FixtureRequest,
) -> None:
    backbone: Backbone = request.getfixturevalue(family)
    stored = train_tiny(Store(tmp_path / "store"), task, backbone, pooling="cls", **STRONG).stored
    artifact = read_artifact(stored.path)
    (code,) = re.findall(r"```python\n(.*?)```", (stored.path / "README.md").read_text(), re.DOTALL)
    place = shutil.copytree(stored.path, tmp_path / "place")
    shutil.copytree(backbone.name, place / artifact.manifest.backbone.name)
    monkeypatch.chdir(place)
    names: dict[str, Any] = {"text": "ada like london"}
    exec(code, names)
    (own,) = our_logits(artifact, backbone, [spec_of(artifact).unlabelled("ada like london")])
    theirs = names["logits"].numpy()
    np.testing.assert_allclose(own, theirs[1:-1] if task == "ner" else theirs[None], rtol=0, atol=1e-4)


@pytest.mark.parametrize("task", ["ner", "sentiment", "intent"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_what_was_trained_loads_with_equal_bits(
    train_tiny: Train, backbone: Backbone, some_texts: Texts, tmp_path: Path, task: str, pooling: str
) -> None:
    result = train_tiny(Store(tmp_path), task, backbone, pooling=pooling, **STRONG)
    artifact = read_artifact(result.stored.path)
    trained, trunk = result.run.trainable.adapter("x"), trunk_of(backbone)
    for text in some_texts(10):
        first, second = (
            probe_logits(a, trunk, backbone, (text,)) for a in (trained, load(artifact, backbone))
        )
        assert np.array_equal(first[0], second[0])


@pytest.mark.parametrize("task", ["ner", "sentiment"])
def test_an_adapter_trained_in_one_precision_loads_in_the_other(
    train_tiny: Train, bert_folder: Path, tmp_path: Path, task: str
) -> None:
    full, half = (Backbone.load(bert_folder, device="cpu", dtype=dtype) for dtype in ("fp32", "bf16"))
    for trained, loaded in ((full, half), (half, full)):
        artifact = read_artifact(train_tiny(Store(tmp_path), task, trained, **STRONG).stored.path)
        assert load(artifact, loaded).ref == "x@1"


def test_nothing_of_a_loaded_adapter_trains(train_tiny: Train, bert: Backbone, tmp_path: Path) -> None:
    adapter = load(read_artifact(train_tiny(Store(tmp_path), "ner", bert).stored.path), bert)
    assert not any(tensor.requires_grad for tensor in [*adapter.lora.parameters, *adapter.head.parameters()])
    assert not adapter.head.training


def test_loading_and_predicting_leave_the_trunk_as_it_was(
    train_tiny: Train, bert: Backbone, tmp_path: Path
) -> None:
    trunk = trunk_of(bert)
    before = trunk.checksum()
    adapter = load(read_artifact(train_tiny(Store(tmp_path), "ner", bert).stored.path), bert, trunk)
    probe_logits(adapter, trunk, bert, ("ada like london",))
    assert trunk.checksum() == before


def test_an_artifact_of_a_local_backbone_tells_nobody_where_it_stood(
    train_tiny: Train, bert: Backbone, tmp_path: Path
) -> None:
    folder = train_tiny(Store(tmp_path), "ner", bert).stored.path
    for file in ("adapter_config.json", "task.json", "README.md", "history.jsonl"):
        assert str(Path(bert.name).parent) not in (folder / file).read_text()


# What must not load


@pytest.fixture
def artifact(train_tiny: Train, bert: Backbone, tmp_path: Path) -> Artifact:
    return read_artifact(train_tiny(Store(tmp_path), "sentiment", bert, pooling="cls", **STRONG).stored.path)


def test_another_backbone_is_a_mismatch(artifact: Artifact, tmp_path: Path) -> None:
    other = Backbone.load(
        tiny_backbone(tmp_path / "other", shape=TinyShape(positions=128), seed=1), device="cpu", dtype="fp32"
    )
    with pytest.raises(
        BackboneMismatch, match=r"x@1 was trained on tiny-bert with weights .*; use that backbone"
    ):
        load(artifact, other)


def test_another_tokenizer_is_a_mismatch(artifact: Artifact, bert: Backbone, tmp_path: Path) -> None:
    folder = shutil.copytree(bert.name, tmp_path / "other")
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace('"lowercase": true', '"lowercase": false'))
    with pytest.raises(BackboneMismatch, match="x@1 was trained with tokenizer"):
        load(artifact, Backbone.load(folder, device="cpu", dtype="fp32"))


def tampered(
    artifact: Artifact, file: str, change: Callable[[dict[str, torch.Tensor]], Any], fix: bool
) -> Path:
    """Change the weights in place, and correct the hashes in task.json if `fix`."""
    path = artifact.path / file
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    if fix:
        manifest = json.loads((artifact.path / "task.json").read_text())
        manifest["files"][file] = {
            "sha256": sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        (artifact.path / "task.json").write_text(json.dumps(manifest))
    return artifact.path


def flip(key_part: str) -> Callable[[dict[str, torch.Tensor]], Any]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        key = max(key for key in tensors if key_part in key)  # of weight and bias, the weight
        tensors[key] *= -1

    return change


def test_changed_weights_have_another_hash(artifact: Artifact) -> None:
    with pytest.raises(HashMismatch, match=r"adapter_model.safetensors has sha256"):
        read_artifact(tampered(artifact, "adapter_model.safetensors", flip("lora_B"), fix=False))


@pytest.mark.parametrize(
    "part", ["layer.0.attention.self.query.lora_B", "layer.1.output.dense.lora_A", "classifier", "pooler"]
)
def test_changed_weights_with_corrected_hashes_fail_their_probe(
    artifact: Artifact, bert: Backbone, part: str
) -> None:
    folder = tampered(artifact, "adapter_model.safetensors", flip(part), fix=True)
    with pytest.raises(
        AdapterRejected,
        match=r"adapter x@1: its probe gives logits that differ by .*, at most .* is allowed in fp32",
    ):
        load(read_artifact(folder), bert)


def test_a_changed_head_file_with_corrected_hashes_fails_its_probe(
    train_tiny: Train, bert: Backbone, tmp_path: Path
) -> None:
    stored = train_tiny(Store(tmp_path), "sentiment", bert, pooling="mean", **STRONG).stored
    folder = tampered(read_artifact(stored.path), "head.safetensors", flip("weight"), fix=True)
    with pytest.raises(AdapterRejected, match="gives logits that differ"):
        load(read_artifact(folder), bert)


def with_manifest(artifact: Artifact, **changes: Any) -> Artifact:
    return replace(artifact, manifest=replace(artifact.manifest, **changes))


def test_a_head_for_other_labels_is_rejected(artifact: Artifact, bert: Backbone) -> None:
    with pytest.raises(
        AdapterRejected, match=r"head weight classifier.bias has shape \(2,\), expected \(3,\)"
    ):
        load(with_manifest(artifact, labels=("a", "b", "c")), bert)


def test_a_head_of_another_kind_is_rejected(artifact: Artifact, bert: Backbone) -> None:
    with pytest.raises(
        AdapterRejected, match="stored as SEQ_CLS, the task's head is TOKEN_CLS; the plugin has changed"
    ):
        load(artifact, bert, spec=PluginHost.discover().task("ner"))


def test_an_update_for_another_width_is_rejected(artifact: Artifact, bert: Backbone) -> None:
    key = next(key for key in artifact.adapter_model if "query.lora_A" in key)
    wide = {**artifact.adapter_model, key: torch.ones(4, 48)}
    with pytest.raises(
        AdapterRejected, match=r"layer \d query has shape \(32, 48\), the backbone has \(32, 32\)"
    ):
        load(replace(artifact, adapter_model=wide), bert)


def test_an_update_for_a_layer_that_is_not_there_is_rejected(artifact: Artifact, bert: Backbone) -> None:
    deep = {key.replace("layer.1.", "layer.7."): tensor for key, tensor in artifact.adapter_model.items()}
    with pytest.raises(AdapterRejected, match=r"layer 7 .* the backbone has no such layer"):
        load(replace(artifact, adapter_model=deep), bert)


@pytest.mark.parametrize(
    "logits",
    [[], [[0.0, 0.0, 0.0]], [[0.0, 0.0]] * 2, [[0.0], [0.0, 0.0]], [[[0.0]]], [0.0], [[[0.0, 0.0]]]],
    ids=str,
)
def test_a_probe_of_another_shape_is_rejected(artifact: Artifact, bert: Backbone, logits: Any) -> None:
    probe = Probe(texts=artifact.manifest.probe.texts[:1], logits=(logits,))
    with pytest.raises(AdapterRejected, match=r"adapter x@1: .*probe"):
        load(with_manifest(artifact, probe=probe), bert)


def test_a_probe_of_huge_numbers_is_rejected(artifact: Artifact, bert: Backbone) -> None:
    probe = Probe(texts=artifact.manifest.probe.texts[:1], logits=([[1e300, -1e300]],))
    with pytest.raises(AdapterRejected, match="probe"):
        load(with_manifest(artifact, probe=probe), bert)


def test_a_config_without_a_task_type_is_rejected(artifact: Artifact, bert: Backbone) -> None:
    bare = {key: value for key, value in artifact.adapter_config.items() if key != "task_type"}
    with pytest.raises(OneTrunkError, match="stored as None"):
        load(replace(artifact, adapter_config=bare), bert)


def test_a_rejected_adapter_leaves_the_trunk_as_it_was(artifact: Artifact, bert: Backbone) -> None:
    trunk = trunk_of(bert)
    before = trunk.checksum()
    with pytest.raises(AdapterRejected, match="head weight"):
        load(with_manifest(artifact, labels=("a", "b", "c")), bert, trunk)
    assert trunk.checksum() == before
