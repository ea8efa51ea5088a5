from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
import torch

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import TaskSpecError, TrainingDiverged
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Record, TaskSpec
from onetrunk.core.training.encoded_dataset import EncodedDataset, encode_dataset
from onetrunk.core.training.loop import AdapterRun, CacheBudget, HiddenStateCache, train_together
from onetrunk.core.training.run_state import TrainingRun, planned
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.trainable import TrainableAdapter
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.build import trunk_of
from onetrunk.core.trunk.packing import pack

Records = dict[str, list[Record]]
SETTINGS = {
    "ner": TrainSettings(epochs=5, lr=3e-3, rank=4, batch_tokens=64, patience=0),
    "sentiment": TrainSettings(
        epochs=4, lr=1e-3, rank=2, batch_tokens=80, seed=7, layers="last-1", patience=0
    ),
    "intent": TrainSettings(
        epochs=6, lr=2e-3, rank=8, batch_tokens=48, dropout=0.0, targets=("attention_output", "output")
    ),
    "head": TrainSettings(epochs=3, method="head", batch_tokens=64, seed=2),
}


@pytest.fixture(scope="module")
def host() -> PluginHost:
    return PluginHost.discover()


def make_run(
    host: PluginHost, backbone: Backbone, trunk: Trunk, records: Records, name: str, **more: Any
) -> AdapterRun:
    spec = host.task("sentiment" if name == "head" else name)
    return run_of(spec, backbone, trunk, records[spec.name], replace(SETTINGS[name], **more), name)


def run_of(
    spec: TaskSpec,
    backbone: Backbone,
    trunk: Trunk,
    rows: list[Record],
    settings: TrainSettings,
    name: str = "x",
) -> AdapterRun:
    examples = [spec.read(row) for row in rows]
    labels = spec.learn_labels(examples)
    dataset = encode_dataset(spec, backbone, examples, labels)
    trainable = TrainableAdapter(spec, labels, backbone, trunk, planned(settings, dataset))
    return TrainingRun(name, trainable, dataset, dataset)


def states(run: AdapterRun) -> list[torch.Tensor]:
    trainable = run.result().trainable
    return [*trainable.weights, *trainable.head.state_dict().values()]


def test_each_run_learns_what_it_learns_alone(host: PluginHost, backbone: Backbone, records: Records) -> None:
    trunk = trunk_of(backbone)
    alone, together = (
        [make_run(host, backbone, trunk, records, name) for name in SETTINGS] for _ in range(2)
    )
    for run in alone:
        list(train_together([run], trunk))
    list(train_together(together, trunk))
    for one, other in zip(alone, together, strict=True):
        assert one.result().best_epoch == other.result().best_epoch
        assert len(one.result().history) == len(other.result().history)
        for own, expected in zip(states(other), states(one), strict=True):
            torch.testing.assert_close(own, expected, rtol=0, atol=1e-4)


def test_a_run_that_diverges_ends_alone(host: PluginHost, bert: Backbone, records: Records) -> None:
    trunk = trunk_of(bert)
    good, alone = (make_run(host, bert, trunk, records, "ner") for _ in range(2))
    bad = make_run(host, bert, trunk, records, "sentiment", lr=1e38)
    list(train_together([bad, good], trunk))
    list(train_together([alone], trunk))
    with pytest.raises(TrainingDiverged, match="not finite at epoch 1"):
        bad.result()
    for own, expected in zip(states(good), states(alone), strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-4)


def test_a_plugin_that_raises_ends_its_run_alone(host: PluginHost, bert: Backbone, records: Records) -> None:
    def loss(*_: Any) -> Any:
        raise ZeroDivisionError("a bug of the plugin")

    trunk = trunk_of(bert)
    spec = replace(host.task("sentiment"), loss=loss)
    bad = run_of(spec, bert, trunk, records["sentiment"], SETTINGS["sentiment"])
    good = make_run(host, bert, trunk, records, "ner")
    list(train_together([good, bad], trunk))
    assert len(good.result().history) == SETTINGS["ner"].epochs
    with pytest.raises(TaskSpecError, match="loss raises ZeroDivisionError: a bug of the plugin"):
        bad.result()


def test_ctrl_c_ends_all(host: PluginHost, bert: Backbone, records: Records) -> None:
    def loss(*_: Any) -> Any:
        raise KeyboardInterrupt

    trunk = trunk_of(bert)
    spec = replace(host.task("sentiment"), loss=loss)
    with pytest.raises(KeyboardInterrupt):
        list(train_together([run_of(spec, bert, trunk, records["sentiment"], SETTINGS["sentiment"])], trunk))


@pytest.mark.parametrize("room", [2**30, 2_000, 0])  # all is kept, a few texts are, nothing is
@pytest.mark.parametrize("first", [0, 1, 2])
def test_cached_hidden_states_equal_those_of_the_frozen_trunk(
    first: int, room: int, backbone: Backbone, records: Records, host: PluginHost
) -> None:
    trunk, spec = trunk_of(backbone), host.task("ner")
    examples = [spec.read(row) for row in records["ner"]]
    encoded = encode_dataset(spec, backbone, examples, spec.learn_labels(examples)).encoded
    lower = HiddenStateCache(trunk, encoded, first, CacheBudget(room))
    for batch in ([3, 0, 2], [0, 5, 2, 3], [3, 0, 2]):
        found = lower.states(batch)
        assert not found.requires_grad
        for index, own in zip(batch, found.split([encoded[i].tokens for i in batch]), strict=True):
            packed = pack([encoded[index]], [0])
            expected = trunk.run(trunk.embed(packed), packed, {}, range(first))
            torch.testing.assert_close(own, expected, rtol=0, atol=1e-5)


def test_kept_states_are_not_computed_again(bert: Backbone, records: Records, host: PluginHost) -> None:
    trunk, spec = trunk_of(bert), host.task("ner")
    examples = [spec.read(row) for row in records["ner"]]
    encoded = encode_dataset(spec, bert, examples, spec.learn_labels(examples)).encoded
    kept, anew = (HiddenStateCache(trunk, encoded, 1, CacheBudget(room)) for room in (2**30, 0))
    first = kept.states([0, 1, 2])
    assert torch.equal(kept.states([1]), first.split([encoded[i].tokens for i in range(3)])[1])
    assert torch.equal(anew.states([0, 1, 2]), first)


def test_runs_of_a_plan_keep_states_within_one_budget(
    host: PluginHost, bert: Backbone, records: Records
) -> None:
    limit = 20_000
    trunk, budget = trunk_of(bert), CacheBudget(limit)
    runs = [make_run(host, bert, trunk, records, "sentiment", seed=seed) for seed in range(3)]
    size = sum(text.tokens for text in runs[0].train.encoded) * trunk.width * 4
    assert limit < 3 * size  # all of them do not fit
    left = [budget.left for _ in train_together(runs, trunk, budget)]
    assert 0 <= left[0] < limit
    assert budget.left == limit  # a run that ended gives its memory back


def test_what_does_not_fit_into_the_budget_changes_nothing_that_is_learnt(
    host: PluginHost, bert: Backbone, records: Records
) -> None:
    learnt = []
    for limit in (2**30, 3_000):
        trunk = trunk_of(bert)
        alone = make_run(host, bert, trunk, records, "sentiment")
        (run,) = train_together([alone], trunk, CacheBudget(limit))
        learnt.append(states(run))
    for kept, computed in zip(*learnt, strict=True):
        torch.testing.assert_close(kept, computed, rtol=0, atol=1e-5)


def test_a_run_holds_the_batches_of_one_epoch(host: PluginHost, bert: Backbone, records: Records) -> None:
    trunk, spec = trunk_of(bert), host.task("sentiment")
    examples = [spec.read(row) for row in records["sentiment"]] * 2_000
    labels = spec.learn_labels(examples)
    own = encode_dataset(spec, bert, examples[: len(records["sentiment"])], labels)
    dataset = EncodedDataset(tuple(examples), own.encoded * 2_000, own.targets * 2_000)
    held = []
    for epochs in (1, 20):
        tracemalloc.start()
        settings = planned(TrainSettings(epochs=epochs), dataset)
        run = TrainingRun("x", TrainableAdapter(spec, labels, bert, trunk, settings), dataset, own)
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert run.batch
    assert held[1] < 1.2 * held[0]
