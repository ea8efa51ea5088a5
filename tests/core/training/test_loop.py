from __future__ import annotations

import inspect
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from onetrunk.adapters.format.artifact import read_artifact
from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone, fingerprint
from onetrunk.core.data.dataset import Dataset, content_sha256
from onetrunk.core.data.training_data import TrainData
from onetrunk.core.errors import DataError, TrainingDiverged, UsageError
from onetrunk.core.inference.adapter_io import load_adapter
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Labels, Record, TaskSpec
from onetrunk.core.tasks.hookspecs import hookimpl
from onetrunk.core.training.encoded_dataset import EncodedDataset
from onetrunk.core.training.job import TrainJob
from onetrunk.core.training.pipeline import train_adapter
from onetrunk.core.training.run_state import TrainingCallback
from onetrunk.core.trunk.build import build_trunk, trunk_of
from tests.core.training.short_runs import SHORT, run, same_weights

Train = Callable[..., Any]
# What a run learns


@pytest.mark.parametrize("method", ["lora", "head"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_loss_falls(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone, method: Any, optimizer: Any
) -> None:
    settings = replace(SHORT, method=method, optimizer=optimizer, lr=0.02, dropout=0.0)
    history = run(spec, dataset, bert, settings).history
    assert history[-1]["loss"] < history[0]["loss"]


def test_only_the_chosen_targets_train(spec: TaskSpec, dataset: EncodedDataset, bert: Backbone) -> None:
    trained = run(spec, dataset, bert, replace(SHORT, targets=("value", "output"), layers="last-1"))
    assert set(trained.trainable.lora.updates) == {(1, "value"), (1, "output")}
    head = sum(p.numel() for p in trained.trainable.head.parameters())
    assert trained.trainable.trained_parameters == head + 4 * (32 + 32) + 4 * (32 + 64)


def test_method_head_has_no_updates(spec: TaskSpec, dataset: EncodedDataset, bert: Backbone) -> None:
    trained = run(spec, dataset, bert, replace(SHORT, method="head"))
    assert trained.trainable.lora.updates == {}
    assert trained.trainable.weights == []


@pytest.mark.parametrize("method", ["lora", "head"])
def test_training_never_changes_the_trunk(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone, method: Any
) -> None:
    trunk = trunk_of(bert)
    before = trunk.checksum()
    run(spec, dataset, bert, replace(SHORT, method=method), trunk=trunk)
    assert trunk.checksum() == before == build_trunk(bert, torch.float32).checksum()
    assert fingerprint(bert.read_tensors()) == bert.fingerprint
    assert all(tensor.grad is None and not tensor.requires_grad for tensor in trunk.tensors().values())


def test_class_weights_change_what_is_learnt(spec: TaskSpec, dataset: EncodedDataset, bert: Backbone) -> None:
    few = EncodedDataset(dataset.examples[:5], dataset.encoded[:5], dataset.targets[:5])
    plain, weighted = (run(spec, few, bert, replace(SHORT, class_weights=w)) for w in ("none", "balanced"))
    assert not same_weights(plain, weighted)


# Repeatability


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("task", ["ner", "sentiment"])
def test_the_same_run_twice_gives_the_same_bytes(
    train_tiny: Train, bert_folder: Path, tmp_path: Path, precision: str, task: str
) -> None:
    store, backbone = Store(tmp_path), Backbone.load(bert_folder, device="cpu", dtype=precision)
    files = [train_tiny(store, task, backbone).stored.path / "adapter_model.safetensors" for _ in range(2)]
    assert files[0].read_bytes() == files[1].read_bytes()
    other = train_tiny(store, task, backbone, seed=1).stored.path / "adapter_model.safetensors"
    assert files[0].read_bytes() != other.read_bytes()


def train_from_file(backbone: str, rows: str, store: str) -> str:
    """Train as a script does and return the folder; its source runs in a process of its own, too."""
    from pathlib import Path

    from onetrunk.adapters.store.store import Store
    from onetrunk.core.backbones.backbone import Backbone
    from onetrunk.core.data.splits import Splits
    from onetrunk.core.data.training_data import read_train_data
    from onetrunk.core.plugin_system.host import PluginHost
    from onetrunk.core.training.job import TrainJob
    from onetrunk.core.training.pipeline import train_adapter
    from onetrunk.core.training.settings import TrainSettings

    host, settings = PluginHost.discover(), TrainSettings(epochs=2, rank=4, batch_tokens=64)
    data = read_train_data(host.task("ner"), Splits(rows), seed=3)
    trunk = Backbone.load(backbone, device="cpu", dtype="fp32")
    result = train_adapter(host, Store(Path(store)), TrainJob("ner", "x", data, settings), trunk)
    return str(result.stored.path)  # type: ignore[union-attr]


def test_another_process_with_another_hash_seed_gives_the_same_bytes(
    bert_folder: Path, records: dict[str, list[Record]], tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(map(json.dumps, records["ner"])))
    source = f"import sys\n{inspect.getsource(train_from_file)}\nprint(train_from_file(*sys.argv[1:]))"
    line = [sys.executable, "-c", source, str(bert_folder), str(rows), str(tmp_path / "there")]
    environment = {**os.environ, "PYTHONHASHSEED": "2"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True, timeout=300)
    there = Path(done.stdout.splitlines()[-1])
    here = Path(train_from_file(str(bert_folder), str(rows), str(tmp_path / "here")))
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (there / name).read_bytes() == (here / name).read_bytes()


def test_the_generators_of_the_process_are_left_alone(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    run(spec, dataset, bert, SHORT)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), str(np.random.get_state()))


def test_random_numbers_drawn_before_do_not_change_the_weights(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    first = run(spec, dataset, bert, SHORT)
    torch.rand(7)
    assert same_weights(first, run(spec, dataset, bert, SHORT))


def test_a_callback_that_reseeds_python_does_not_change_the_weights(
    spec: TaskSpec, dataset: EncodedDataset, bert: Backbone
) -> None:
    first = run(spec, dataset, bert, SHORT)
    second = run(
        spec, dataset, bert, SHORT, callback=TrainingCallback(step=lambda event: random.seed(event.step))
    )
    assert same_weights(first, second)


# What goes wrong


def test_a_batch_of_empty_texts_does_not_stop_training(
    train_tiny: Train, bert: Backbone, tmp_path: Path
) -> None:
    empty = [{"text": "", "entities": []}] * 40
    named = [{"words": ["Ada", "in", "Rome"], "tags": ["B-PER", "O", "B-LOC"]}] * 10
    run = train_tiny(Store(tmp_path), "ner", bert, rows=[*empty, *named], batch_tokens=16)
    assert run.metrics["dev"]["f1"] > 0


@pytest.mark.parametrize("epochs", [1, 4])
@pytest.mark.parametrize("batch_tokens", [64, 100_000])
def test_a_run_that_diverges_says_so_and_stores_nothing(
    train_tiny: Train, bert: Backbone, tmp_path: Path, epochs: int, batch_tokens: int
) -> None:
    store = Store(tmp_path)
    with pytest.raises(
        TrainingDiverged, match=r"not finite at epoch \d, step \d+; nothing was stored; try a lower --lr"
    ):
        train_tiny(store, "sentiment", bert, lr=1e38, epochs=epochs, batch_tokens=batch_tokens)
    assert store.versions() == []


def test_finite_weights_with_infinite_logits_are_refused(
    train_tiny: Train, bert: Backbone, tmp_path: Path
) -> None:
    with pytest.raises(TrainingDiverged, match=r"or a lower --head-lr than 0\.01"):
        train_tiny(Store(tmp_path), "sentiment", bert, lr=1e30, epochs=1, batch_tokens=100_000)


def test_dev_data_without_any_label_are_refused_before_training(tmp_path: Path) -> None:
    from onetrunk.core.data.splits import Splits
    from onetrunk.core.data.training_data import read_train_data
    from onetrunk.core.plugin_system.host import PluginHost

    train, dev = tmp_path / "train.jsonl", tmp_path / "dev.jsonl"
    train.write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')
    dev.write_text('{"text": "c", "label": "oos"}\n')
    with pytest.raises(DataError, match=r"dev\.jsonl: no row has one of the labels: x, y"):
        read_train_data(PluginHost.discover().task("intent"), Splits(train, dev))


def test_an_interrupted_run_stores_nothing(
    train_tiny: Train, bert: Backbone, tmp_path: Path, spec: TaskSpec
) -> None:
    store = Store(tmp_path)
    with pytest.raises(UsageError, match="the backbone has only 2 layers"):
        train_tiny(store, "sentiment", bert, layers="last-3")
    assert store.versions() == []


# Starting from another adapter


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_warm_start_begins_from_the_very_weights_of_its_parent(
    train_tiny: Train, bert_folder: Path, tmp_path: Path, precision: str
) -> None:
    store, backbone = Store(tmp_path), Backbone.load(bert_folder, device="cpu", dtype=precision)
    parent = train_tiny(store, "sentiment", backbone).stored
    child = train_tiny(store, "sentiment", backbone, start=parent, lr=1e-30, head_lr=1e-30, epochs=1).stored
    before, after = (read_artifact(stored.path).adapter_model for stored in (parent, child))
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
    assert read_artifact(child.path).manifest.parent == parent.ref


@pytest.mark.parametrize("parent_method", ["lora", "head"])
@pytest.mark.parametrize("method", ["lora", "head"])
def test_the_result_of_a_warm_start_loads(
    train_tiny: Train, bert: Backbone, spec: TaskSpec, tmp_path: Path, parent_method: str, method: str
) -> None:
    store = Store(tmp_path)
    parent = train_tiny(store, "sentiment", bert, method=parent_method).stored
    child = train_tiny(store, "sentiment", bert, start=parent, method=method).stored
    artifact = read_artifact(child.path)
    adapter = load_adapter(child.ref, artifact, spec, bert, trunk_of(bert))
    assert bool(adapter.lora.updates) == (artifact.manifest.method == "lora")


def test_a_warm_start_keeps_the_shape_of_its_parent_and_records_it(
    train_tiny: Train, bert: Backbone, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    shape = {"rank": 3, "alpha": 5.0, "targets": ("query",), "layers": "last-1", "pooling": "mean"}
    parent = train_tiny(store, "sentiment", bert, **shape).stored
    child = read_artifact(train_tiny(store, "sentiment", bert, start=parent, rank=8).stored.path).manifest
    recorded = {key: child.training[key] for key in shape}
    assert recorded == {**shape, "targets": ["query"], "alpha": pytest.approx(5.0)}
    assert child.pooling == "mean"


class OneHot:
    """A task whose targets say of each label whether it holds, as those of several labels a text do."""

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = replace(
            spec, name="one-hot", targets=lambda e, labels: [int(e.target == x) for x in labels]
        )

    @hookimpl
    def tasks(self) -> list[TaskSpec]:
        return [self.spec]


@pytest.mark.parametrize("labels", [("neg", "pos"), ("pos",)])
def test_balanced_weights_of_what_is_not_one_label_a_unit_are_refused(
    spec: TaskSpec, bert: Backbone, records: dict[str, list[Record]], tmp_path: Path, labels: Labels
) -> None:
    examples = tuple(map(spec.read, records["sentiment"]))
    rows = Dataset(examples, "rows", content_sha256(examples))
    data, store = TrainData(rows, rows, None, labels, held_out=False), Store(tmp_path)
    balanced = replace(SHORT, class_weights="balanced")
    with pytest.raises(UsageError, match="the targets of task 'one-hot' are not one label index per unit"):
        train_adapter(PluginHost.of(OneHot(spec)), store, TrainJob("one-hot", "x", data, balanced), bert)
    assert store.versions() == []
