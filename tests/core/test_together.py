from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from onetrunk.core.backbone import Backbone
from onetrunk.core.corpus import Corpus, make_corpus
from onetrunk.core.errors import TrainingDiverged
from onetrunk.core.lower import LowerStates
from onetrunk.core.plugin_host import PluginHost
from onetrunk.core.run import Run
from onetrunk.core.settings import TrainSettings
from onetrunk.core.tasks import Record, TaskSpec
from onetrunk.core.trainer import train_together
from onetrunk.core.trunk import Trunk

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
) -> Run:
    spec = host.task("sentiment" if name == "head" else name)
    return run_of(spec, backbone, trunk, records[spec.name], replace(SETTINGS[name], **more), name)


def run_of(
    spec: TaskSpec,
    backbone: Backbone,
    trunk: Trunk,
    rows: list[Record],
    settings: TrainSettings,
    name: str = "x",
) -> Run:
    examples = [spec.read(row) for row in rows]
    labels = spec.learn_labels(examples)
    corpus = make_corpus(spec, backbone, examples, labels)
    return Run(spec, name, corpus, corpus, labels, backbone, trunk, settings)


def states(run: Run) -> list[torch.Tensor]:
    learner = run.result().learner
    return [*learner.weights, *learner.head.state_dict().values()]


def test_each_run_learns_what_it_learns_alone(host: PluginHost, backbone: Backbone, records: Records) -> None:
    trunk = Trunk.of(backbone)
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
    trunk = Trunk.of(bert)
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

    trunk = Trunk.of(bert)
    spec = replace(host.task("sentiment"), loss=loss)
    bad = run_of(spec, bert, trunk, records["sentiment"], SETTINGS["sentiment"])
    good = make_run(host, bert, trunk, records, "ner")
    list(train_together([good, bad], trunk))
    assert len(good.result().history) == SETTINGS["ner"].epochs
    with pytest.raises(ZeroDivisionError, match="a bug of the plugin"):
        bad.result()


def test_ctrl_c_ends_all(host: PluginHost, bert: Backbone, records: Records) -> None:
    def loss(*_: Any) -> Any:
        raise KeyboardInterrupt

    trunk = Trunk.of(bert)
    spec = replace(host.task("sentiment"), loss=loss)
    with pytest.raises(KeyboardInterrupt):
        list(train_together([run_of(spec, bert, trunk, records["sentiment"], SETTINGS["sentiment"])], trunk))


@pytest.mark.parametrize("layers", ["last-1", "all"])
def test_kept_states_change_nothing(
    layers: str, host: PluginHost, bert: Backbone, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk, found = Trunk.of(bert), []
    for room in (2**30, 2_000, 0):  # everything, a few texts, nothing is kept
        monkeypatch.setattr("onetrunk.core.lower.KEPT_BYTES", room)
        run = make_run(host, bert, trunk, records, "ner", layers=layers, epochs=3)
        list(train_together([run], trunk))
        found.append(states(run))
    for own in zip(*found, strict=True):
        torch.testing.assert_close(own[1], own[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(own[2], own[0], rtol=0, atol=1e-5)


def test_lower_states_are_those_of_the_bare_trunk_below(
    bert: Backbone, records: Records, host: PluginHost
) -> None:
    trunk, spec = Trunk.of(bert), host.task("ner")
    examples = [spec.read(row) for row in records["ner"]]
    corpus: Corpus = make_corpus(spec, bert, examples, spec.learn_labels(examples))
    lower = LowerStates(trunk, bert.first_position, corpus.encoded, 1)
    first, again = lower.of([3, 0, 2]), lower.of([0, 5, 2])
    assert not first.requires_grad
    lengths = [corpus.encoded[i].tokens for i in (3, 0, 2)]
    assert torch.equal(first.split(lengths)[1], again[: lengths[1]])  # text 0 was kept
    alone = LowerStates(trunk, bert.first_position, corpus.encoded, 1).of([2])
    torch.testing.assert_close(first.split(lengths)[2], alone, rtol=0, atol=1e-5)
