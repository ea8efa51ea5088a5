"""The probe refuses an adapter that is not whole, in every precision, and no adapter that is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.load.adapters import MIXED, Stock, make_stock
from onetrunk.adapters.format.artifact import read_artifact
from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import DEFAULT_BACKBONE, Backbone
from onetrunk.core.backbones.kernels import has_int8
from onetrunk.core.errors import AdapterRejected
from onetrunk.core.inference.adapter_io import load_adapter
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.build import trunk_of

Tensors = dict[str, torch.Tensor]
Train = Callable[..., Any]
MODEL = "adapter_model.safetensors"
WITHOUT_INT8 = pytest.mark.skipif(not has_int8(), reason="torch has no int8 kernels here")
TASKS = ("ner", "sentiment", "intent")


@pytest.fixture(scope="module", params=["fp32", "bf16", pytest.param("int8", marks=WITHOUT_INT8)])
def serving(request: pytest.FixtureRequest, bert_folder: Path) -> Backbone:
    """The tiny backbone in each precision."""
    return Backbone.load(bert_folder, device="cpu", dtype=request.param)


@pytest.fixture(scope="module")
def trained(train_tiny: Train, bert: Backbone, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of an adapter of each task and of `other`, a second one of sentiment."""
    store = Store(tmp_path_factory.mktemp("store"))
    settings = {"lr": 0.05, "head_lr": 0.05, "patience": 0, "pooling": "cls"}
    folders = {task: train_tiny(store, task, bert, **settings).stored.path for task in TASKS}
    return {
        **folders,
        "other": train_tiny(store, "sentiment", bert, name="other", seed=7, **settings).stored.path,
    }


def load(folder: Path, backbone: Backbone, trunk: Trunk | None = None) -> None:
    artifact = read_artifact(folder)
    spec = PluginHost.discover().task(artifact.manifest.task)
    load_adapter("x@1", artifact, spec, backbone, trunk or trunk_of(backbone))


def changed(folder: Path, target: Path, change: Callable[[Tensors], Tensors]) -> Path:
    """Copy an artifact to `target` with other weights, and with their hash."""
    shutil.copytree(folder, target)
    save_file(change(load_file(target / MODEL)), target / MODEL, metadata={"format": "pt"})
    manifest = json.loads((target / "task.json").read_text())
    content = (target / MODEL).read_bytes()
    manifest["files"][MODEL] = {"sha256": sha256(content).hexdigest(), "bytes": len(content)}
    (target / "task.json").write_text(json.dumps(manifest))
    return target


def without_updates(tensors: Tensors) -> Tensors:
    return {key: 0 * own if "lora_B" in key else own for key, own in tensors.items()}


@pytest.mark.parametrize("task", TASKS)
def test_a_trained_adapter_loads(trained: dict[str, Path], serving: Backbone, task: str) -> None:
    load(trained[task], serving)


@pytest.mark.parametrize("task", TASKS)
def test_an_adapter_without_its_updates_is_refused(
    trained: dict[str, Path], serving: Backbone, task: str, tmp_path: Path
) -> None:
    folder = changed(trained[task], tmp_path / "changed", without_updates)
    with pytest.raises(AdapterRejected, match=r"its probe gives logits that differ by .* is allowed in"):
        load(folder, serving)


@pytest.mark.parametrize("factor", [1e19, 1e25, 1e30])
def test_an_adapter_with_logits_that_overflow_is_refused(
    trained: dict[str, Path], serving: Backbone, factor: float, tmp_path: Path
) -> None:
    def scaled(tensors: Tensors) -> Tensors:
        return {key: factor * own if "classifier" in key else own for key, own in tensors.items()}

    folder = changed(trained["sentiment"], tmp_path / "changed", scaled)
    with pytest.raises(AdapterRejected, match=r"its probe gives logits that differ by .* is allowed in"):
        load(folder, serving)


def test_an_adapter_with_the_head_of_another_is_refused(
    trained: dict[str, Path], serving: Backbone, tmp_path: Path
) -> None:
    theirs = load_file(trained["other"] / MODEL)

    def with_their_head(tensors: Tensors) -> Tensors:
        return {key: own if "lora_" in key else theirs[key] for key, own in tensors.items()}

    folder = changed(trained["sentiment"], tmp_path / "changed", with_their_head)
    with pytest.raises(AdapterRejected, match=r"its probe gives logits that differ by .* is allowed in"):
        load(folder, serving)


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    backbone = Backbone.load(DEFAULT_BACKBONE, device="cpu", dtype="fp32")
    return make_stock(tmp_path_factory.mktemp("stock"), backbone, MIXED, 6)


@pytest.mark.parametrize("precision", ["bf16", pytest.param("int8", marks=WITHOUT_INT8)])
def test_the_random_adapters_of_the_load_benchmark_load(stock: Stock, precision: str) -> None:
    """Five of seven in int8 were refused by a bound that did not follow from the trunk's error."""
    backbone = Backbone.load(DEFAULT_BACKBONE, device="cpu", dtype=precision)
    trunk = trunk_of(backbone)
    for name in stock.names:
        load(stock.store.resolve(name).path, backbone, trunk)


def test_only_a_trunk_in_float32_has_no_error(serving: Backbone) -> None:
    trunk = trunk_of(serving)
    assert (trunk.error == 0.0) == (trunk.precision == torch.float32)
    assert trunk.error < 0.05
