"""Method `full`: every weight of a copy trains, over any encoder, and nothing is stored."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone, fingerprint
from onetrunk.core.data.dataset import Dataset, content_sha256
from onetrunk.core.data.training_data import TrainData
from onetrunk.core.errors import UsageError
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Record, TaskSpec
from onetrunk.core.tasks.hookspecs import EpochEvent
from onetrunk.core.training.encoded_dataset import encode_dataset
from onetrunk.core.training.full_finetuning import WholeModel, train_full
from onetrunk.core.training.job import TrainJob, TrainResult
from onetrunk.core.training.run_state import TrainingCallback
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.trainable import TrainableAdapter
from onetrunk.core.trunk.build import trunk_of

SETTINGS = TrainSettings(method="full", epochs=4, lr=0.003, batch_tokens=64, dropout=0.0, patience=0)
Train = Callable[..., TrainResult]


@pytest.fixture(scope="module")
def host() -> PluginHost:
    return PluginHost.discover()


@pytest.fixture
def train(host: PluginHost, records: dict[str, list[Record]]) -> Train:
    """Return (task, backbone, settings, callback) → the result of a short run, with dev as test."""

    def call(task: str, backbone: Backbone, settings: TrainSettings = SETTINGS, **more: Any) -> TrainResult:
        spec = host.task(task)
        examples = tuple(map(spec.read, records[task]))
        data = Dataset(examples, "rows", content_sha256(examples))
        splits = TrainData(data, data, data, spec.learn_labels(examples), held_out=False)
        return train_full(host, TrainJob(task, "x", splits, settings, **more), backbone)

    return call


def model_of(spec: TaskSpec, backbone: Backbone) -> WholeModel:
    return WholeModel(spec, ("neg", "pos"), backbone, SETTINGS)


@pytest.mark.parametrize("task", ["ner", "sentiment", "intent"])
def test_the_loss_falls_and_nothing_is_stored(train: Train, backbone: Backbone, task: str) -> None:
    result = train(task, backbone)
    losses = [row["loss"] for row in result.run.history]
    assert losses[-1] < losses[0]
    assert (result.stored, result.bytes) == (None, 0)
    assert result.metrics["dev"] == result.metrics["test"]


def test_the_backbone_stays_as_it_is(train: Train, backbone: Backbone) -> None:
    before = trunk_of(backbone).checksum()
    train("sentiment", backbone)
    assert trunk_of(backbone).checksum() == before
    assert fingerprint(backbone.read_tensors()) == backbone.fingerprint


def test_an_untrained_model_gives_the_logits_of_the_trunk(
    host: PluginHost, backbone: Backbone, records: dict[str, list[Record]]
) -> None:
    spec = host.task("sentiment")
    dataset = encode_dataset(spec, backbone, [spec.read(row) for row in records["sentiment"]], ("neg", "pos"))
    head_alone = replace(SETTINGS, method="head")
    adapter = TrainableAdapter(spec, ("neg", "pos"), backbone, trunk_of(backbone), head_alone)
    for own, expected in zip(model_of(spec, backbone).logits(dataset), adapter.logits(dataset), strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-5)


def test_every_weight_gets_a_gradient(host: PluginHost, backbone: Backbone) -> None:
    model = model_of(host.task("sentiment"), backbone)
    texts = backbone.encoder.encode(["good film", "bad " * 200], [(), ()])
    hidden, rows = model.forward(texts, 64)
    assert len(hidden) == int(rows.offsets[-1]) == sum(text.rows for text in texts)
    hidden.sin().sum().backward()
    assert all(weight.grad is not None for weight in model.weights)


def test_the_loss_falls_in_mixed_precision(train: Train, bert_folder: Any) -> None:
    result = train("sentiment", Backbone.load(bert_folder, device="cpu", dtype="bf16"))
    losses = [row["loss"] for row in result.run.history]
    assert losses[-1] < losses[0]
    assert {weight.dtype for weight in result.run.trainable.weights} == {torch.float32}


def test_each_epoch_is_heard_of_and_patience_ends_the_run(train: Train, bert: Backbone) -> None:
    heard: list[EpochEvent] = []
    result = train(
        "sentiment",
        bert,
        replace(SETTINGS, epochs=9, patience=1, lr=1e-12, head_lr=1e-12),
        callback=TrainingCallback(epoch=heard.append),
    )
    assert [event.epoch for event in heard] == [1, 2]
    assert len(result.run.history) == 2


def test_full_is_no_adapter(train_tiny: Callable[..., TrainResult], bert: Backbone, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="method 'full' trains no adapter; run it alone"):
        train_tiny(Store(tmp_path), "sentiment", bert, method="full")


def test_it_does_not_start_from_an_adapter(
    train: Train, train_tiny: Callable[..., TrainResult], bert: Backbone, tmp_path: Path
) -> None:
    parent = train_tiny(Store(tmp_path), "sentiment", bert).stored
    with pytest.raises(UsageError, match=r"method 'full' cannot start from sentiment@1, which is an adapter"):
        train("sentiment", bert, start=parent)


def test_runs_on_several_threads_learn_what_they_learn_alone(train: Train, bert: Backbone) -> None:
    def learn(seed: int) -> str:
        settings = replace(SETTINGS, seed=seed, dropout=0.2)
        trainable = train("sentiment", bert, settings).run.trainable
        return fingerprint({str(i): weight.detach() for i, weight in enumerate(trainable.weights)})

    alone = [learn(seed) for seed in (0, 1)]
    assert alone[0] != alone[1]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(learn, (0, 1))) == alone
