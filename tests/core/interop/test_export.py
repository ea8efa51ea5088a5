"""Exports, used by the tools that they are for, answer as the adapter does; else nothing is there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from onetrunk.adapters.card.samples import ExportFormat
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import ExportError, UsageError
from onetrunk.core.inference.adapter_io import load_adapter
from onetrunk.core.inference.logits import LogitsRequest, compute_logits, encode_examples
from onetrunk.core.interop.export import Exported, export_adapter
from onetrunk.core.interop.import_peft import import_peft
from onetrunk.core.interop.onnx_graph import check_installed
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import HeadContext, HeadFormat
from onetrunk.core.training.manifest_builder import Destination, bare_manifest, store_adapter
from onetrunk.core.trunk.build import trunk_of

Train = Callable[..., Any]
Texts = Callable[[int], list[str]]
HOST = PluginHost.discover()
STRONG = {"lr": 0.05, "head_lr": 0.05, "epochs": 2, "patience": 0}  # so that the updates are far from zero


def exported(
    stored: StoredVersion, backbone: Backbone, form: ExportFormat, folder: Path, spec: Any = None
) -> Exported:
    spec = spec or HOST.task(stored.read().manifest.task)
    return export_adapter(stored, spec, backbone, form, folder)


def our_logits(stored: StoredVersion, backbone: Backbone, texts: list[str]) -> list[np.ndarray]:
    """Return (units, labels) of each text."""
    artifact, trunk = stored.read(), trunk_of(backbone)
    spec = HOST.task(artifact.manifest.task)
    adapter = load_adapter(stored.ref, artifact, spec, backbone, trunk)
    encoded = encode_examples(backbone.encoder, spec, [spec.unlabelled(text) for text in texts])
    return compute_logits(trunk, [adapter], [LogitsRequest(own, 0) for own in encoded])


@pytest.fixture(scope="session")
def words(train_tiny: Train, bert: Backbone, tmp_path_factory: pytest.TempPathFactory) -> StoredVersion:
    """An adapter for words, only to be read."""
    stored: StoredVersion = train_tiny(Store(tmp_path_factory.mktemp("words")), "ner", bert, **STRONG).stored
    return stored


def run_readme(folder: Path, backbone: Backbone, text: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the lines of an export's README for `text` and return their logits."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    base = folder / Path(backbone.name).name  # which the README names without its path
    if not base.exists():
        shutil.copytree(backbone.name, base)
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"text": text}
    exec(code, names)
    return np.asarray(names["logits"])


CASES = [("ner", "cls"), ("sentiment", "cls"), ("sentiment", "mean")]


@pytest.mark.parametrize("form", ["peft", "merged"])
@pytest.mark.parametrize(("task", "pooling"), CASES)
def test_the_lines_of_the_readme_give_our_logits(
    form: ExportFormat,
    task: str,
    pooling: str,
    backbone: Backbone,
    train_tiny: Train,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = train_tiny(store, task, backbone, pooling=pooling, **STRONG).stored
    done = exported(stored, backbone, form, tmp_path / "out")
    assert done.difference < 1e-4
    assert done.texts > 8
    text = "ada like london"
    (ours,) = our_logits(stored, backbone, [text])
    theirs = run_readme(done.folder, backbone, text, monkeypatch)
    np.testing.assert_allclose(ours, theirs[1:-1] if task == "ner" else theirs[None], atol=1e-4)


@pytest.mark.parametrize(
    ("family", "task", "pooling"),
    [
        ("bert", "ner", "cls"),
        ("roberta", "sentiment", "cls"),
        ("electra", "sentiment", "mean"),
        ("deberta", "ner", "cls"),
        pytest.param("bert", "sentiment", "cls", marks=pytest.mark.slow),
        pytest.param("bert", "sentiment", "mean", marks=pytest.mark.slow),
        pytest.param("distilbert", "sentiment", "cls", marks=pytest.mark.slow),
        pytest.param("modernbert", "sentiment", "mean", marks=pytest.mark.slow),
    ],
)
def test_onnx_gives_our_logits(
    family: str,
    task: str,
    pooling: str,
    train_tiny: Train,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    pytest.importorskip("onnxruntime")
    backbone: Backbone = request.getfixturevalue(family)
    stored = train_tiny(store, task, backbone, pooling=pooling, **STRONG).stored
    done = exported(stored, backbone, "onnx", tmp_path / "out")
    assert done.difference < 1e-4
    text = "ada like london"
    (ours,) = our_logits(stored, backbone, [text])
    theirs = run_readme(done.folder, backbone, text, monkeypatch)
    np.testing.assert_allclose(ours, theirs[1:-1] if task == "ner" else theirs[None], atol=1e-4)


def test_every_file_of_an_export_may_be_read_by_whom_any_file_may(
    words: StoredVersion, bert: Backbone, tmp_path: Path
) -> None:
    (tmp_path / "usual").touch()
    done = exported(words, bert, "merged", tmp_path / "out")
    modes = {path.stat().st_mode for path in done.folder.iterdir()}
    assert modes == {(tmp_path / "usual").stat().st_mode}


def test_a_head_trained_alone_is_exported_as_well(
    bert: Backbone, train_tiny: Train, store: Store, tmp_path: Path
) -> None:
    stored = train_tiny(store, "sentiment", bert, pooling="cls", method="head").stored
    assert exported(stored, bert, "merged", tmp_path / "out").difference < 1e-4


def test_a_merged_model_answers_in_a_pipeline_with_our_labels(
    words: StoredVersion, bert: Backbone, tmp_path: Path
) -> None:
    from transformers import pipeline

    done = exported(words, bert, "merged", tmp_path / "out")
    answers = pipeline("token-classification", model=str(done.folder))("ada likes london")
    assert {answer["entity"] for answer in answers} <= set(words.read().manifest.labels)


@pytest.mark.parametrize("form", ["peft", "merged"])
def test_an_export_tells_nothing_of_this_disk(
    form: ExportFormat, words: StoredVersion, bert: Backbone, tmp_path: Path
) -> None:
    done = exported(words, bert, form, tmp_path / "out")
    for path in done.folder.iterdir():
        assert str(Path(bert.name).parent).encode() not in path.read_bytes(), path.name


def test_what_is_exported_for_peft_can_be_pulled_in_again(
    words: StoredVersion, bert: Backbone, store: Store, tmp_path: Path, some_texts: Texts
) -> None:
    done = exported(words, bert, "peft", tmp_path / "out")
    again = import_peft(done.folder, HOST.task("ner"), bert, Destination(HOST, store, "again"))
    assert again.read().manifest.labels == words.read().manifest.labels
    texts = some_texts(10)
    for own, other in zip(our_logits(words, bert, texts), our_logits(again, bert, texts), strict=True):
        np.testing.assert_allclose(own, other, rtol=0, atol=1e-6)


def test_labels_and_settings_lie_beside_the_weights(
    bert: Backbone, train_tiny: Train, store: Store, tmp_path: Path
) -> None:
    stored = train_tiny(store, "intent", bert, pooling="cls", **STRONG).stored
    manifest = stored.read().manifest
    about = json.loads(
        (exported(stored, bert, "merged", tmp_path / "out").folder / "labels.json").read_text()
    )
    assert about == {"task": "intent", "labels": list(manifest.labels), "settings": manifest.settings}


def test_an_empty_folder_is_filled(words: StoredVersion, bert: Backbone, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    done = exported(words, bert, "peft", tmp_path / "out")
    assert {path.name: path.stat().st_size for path in done.folder.iterdir()} == done.files


def full(folder: Path) -> None:
    folder.mkdir()
    (folder / "mine").touch()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (full, "is not empty"),
        (lambda folder: folder.touch(), "is not empty"),
        (lambda folder: folder.symlink_to(folder.parent), "is not empty"),
    ],
    ids=["full", "file", "link"],
)
def test_what_is_there_is_never_touched(
    prepare: Callable[[Path], object], message: str, words: StoredVersion, bert: Backbone, tmp_path: Path
) -> None:
    prepare(tmp_path / "out")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ExportError, match=message):
        exported(words, bert, "peft", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_folder_that_is_not_there_is_named(words: StoredVersion, bert: Backbone, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"the folder .*nowhere does not exist"):
        exported(words, bert, "peft", tmp_path / "nowhere" / "out")


def test_other_logits_than_ours_leave_nothing_behind(
    words: StoredVersion, bert: Backbone, tmp_path: Path
) -> None:
    """The adapter's own head is another one than that of its file: as if the export had gone wrong."""
    spec = HOST.task("ner")

    class Bent(nn.Module):
        format = HeadFormat("TOKEN_CLS", "token")

        def __init__(self, context: HeadContext) -> None:
            super().__init__()
            self.inner = spec.make_head(context)
            self.classifier = self.inner.classifier

        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            return self.inner.state_dict(*args, **kwargs)

        def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
            return self.inner.load_state_dict(*args, **kwargs)

        def forward(self, hidden: torch.Tensor, rows: Any) -> Any:
            return self.inner(hidden, rows) + 5e-4  # less than the probe on loading allows

    with pytest.raises(ExportError, match=r"differ from OneTrunk's by 0\.0005\d*; expected at most 0\.0001"):
        exported(words, bert, "peft", tmp_path / "out", replace(spec, make_head=Bent))
    assert list(tmp_path.iterdir()) == []


class OwnHead(nn.Module):
    """A head of a plugin's own: two linears on the mean of the rows."""

    def __init__(self, context: HeadContext) -> None:
        super().__init__()
        self.down = nn.Linear(context.hidden_size, 4)
        self.up = nn.Linear(4, len(context.labels))

    def forward(self, hidden: torch.Tensor, rows: Any) -> Any:
        from onetrunk.core.tasks.heads import segment_means

        return self.up(self.down(segment_means(hidden, rows.offsets)).tanh())


@pytest.fixture(scope="session")
def own(bert: Backbone, records: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[StoredVersion, Any]:
    """An adapter of a task whose head is its plugin's own, and the task."""
    from onetrunk.adapters.methods.lora import Lora
    from onetrunk.core.inference.adapter import Adapter

    spec = replace(HOST.task("sentiment"), make_head=OwnHead)
    labels = ("bad", "good")
    head = OwnHead(HeadContext(bert.hidden_size, labels)).requires_grad_(False).eval()
    adapter = Adapter("own", spec, labels, "mean", Lora({}), head, {})
    store = Store(tmp_path_factory.mktemp("own"))
    destination = Destination(HOST, store, "own")
    return store_adapter(destination, adapter, bert, bare_manifest(HOST, adapter, bert, 0)), spec


@pytest.mark.parametrize("form", ["peft", "merged"])
def test_a_head_of_a_plugins_own_stands_in_a_file_and_is_checked_as_well(
    form: ExportFormat, own: tuple[StoredVersion, Any], bert: Backbone, tmp_path: Path
) -> None:
    stored, spec = own
    done = exported(stored, bert, form, tmp_path / "out", spec)
    assert done.difference < 1e-4
    assert "head.safetensors" in done.files
    assert "Only the task's plugin defines how the weights" in (done.folder / "README.md").read_text()


def test_a_head_of_a_plugins_own_is_no_onnx(
    own: tuple[StoredVersion, Any], bert: Backbone, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    stored, spec = own
    with pytest.raises(ExportError, match="only the plugin of task 'sentiment' defines its head"):
        exported(stored, bert, "onnx", tmp_path / "out", spec)
    assert list(tmp_path.iterdir()) == []


def test_onnx_that_is_not_installed_is_asked_for_by_its_extra() -> None:
    with pytest.raises(UsageError, match=r"ONNX needs no_such_package: pip install 'onetrunk\[onnx\]'"):
        check_installed(["no_such_package", "torch"])
