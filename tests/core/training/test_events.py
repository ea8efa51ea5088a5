"""Plugins are notified of what trains, is stored, is loaded and is unloaded, also by a program in Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onetrunk.adapters.remotes import open_remote
from onetrunk.adapters.remotes.locations import Location
from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.data.dataset import Dataset, content_sha256
from onetrunk.core.data.training_data import TrainData
from onetrunk.core.inference.predictor import OneTrunk
from onetrunk.core.interop.export import export_adapter
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.sharing.pull import Puller
from onetrunk.core.sharing.push import PushOptions, check_push, publish
from onetrunk.core.tasks import TaskSpec
from onetrunk.core.tasks.hookspecs import EpochEvent, StepEvent, hookimpl
from onetrunk.core.training.full_finetuning import train_full
from onetrunk.core.training.job import TrainJob
from onetrunk.core.training.pipeline import train_adapters
from onetrunk.core.training.run_state import TrainingCallback
from onetrunk.core.training.settings import TrainSettings

TASKS = PluginHost.discover().tasks


class Ear:
    """A plugin that notes the events it is notified of."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    @hookimpl
    def tasks(self) -> list[TaskSpec]:
        return list(TASKS.values())

    @hookimpl
    def training_step(self, event: StepEvent) -> None:
        self.heard.append(("step", event.name, event.step))

    @hookimpl
    def training_epoch(self, event: EpochEvent) -> None:
        self.heard.append(("epoch", event.name, event.epoch))

    @hookimpl
    def adapter_stored(self, name: str, version: int, path: Path) -> None:
        assert (path / "task.json").is_file()
        self.heard.append(("stored", f"{name}@{version}"))

    @hookimpl
    def adapter_swapped(self, name: str, old: str | None, new: str) -> None:
        self.heard.append(("swapped", name, old, new))

    @hookimpl
    def adapter_unloaded(self, name: str, old: str) -> None:
        self.heard.append(("unloaded", name, old))


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def words(bert: Backbone, train_tiny: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with people@1, people@2 (words) and mood@1 (texts)."""
    store = Store(tmp_path_factory.mktemp("words"))
    for task, name in (("ner", "people"), ("ner", "people"), ("sentiment", "mood")):
        train_tiny(store, task, bert, name=name, epochs=1)
    return store


def job_of(rows: Any, **settings: Any) -> TrainJob:
    """Return a training of two epochs, of one step each."""
    spec = TASKS["sentiment"]
    examples = tuple(map(spec.read, rows))
    data = Dataset(examples, "rows", content_sha256(examples))
    splits = TrainData(data, data, None, spec.learn_labels(examples), held_out=False)
    return TrainJob(
        "sentiment", "mood", splits, TrainSettings(epochs=2, batch_tokens=10_000, patience=0, **settings)
    )


def share(stored: Any, folder: Path) -> Location:
    """Publish a version to a shared folder."""
    location, aside = Location.parse(folder.as_uri()), folder.with_name(f"{folder.name}-{stored.version}")
    remote, options = open_remote(location), PushOptions(force=True)
    aside.mkdir(parents=True)
    remote.create(private=False)
    push = check_push(stored, TASKS["ner"], remote, options)
    publish(push, remote, aside, options)
    return location


def test_a_training_from_python(ear: Ear, store: Store, bert: Backbone, records: Any) -> None:
    train_adapters(PluginHost.of(ear), store, [job_of(records["sentiment"])], bert)
    assert ear.heard == [
        ("step", "mood", 1),
        ("epoch", "mood", 1),
        ("step", "mood", 2),
        ("epoch", "mood", 2),
        ("stored", "mood@1"),
    ]


def test_a_full_fine_tuning_from_python(ear: Ear, bert: Backbone, records: Any) -> None:
    train_full(PluginHost.of(ear), job_of(records["sentiment"], method="full"), bert)
    assert ear.heard == [("step", "mood", 1), ("epoch", "mood", 1), ("step", "mood", 2), ("epoch", "mood", 2)]


def test_a_listener_is_called_before_the_plugins(
    ear: Ear, store: Store, bert: Backbone, records: Any
) -> None:
    seen: list[int] = []
    callback = TrainingCallback(step=lambda _: seen.append(len(ear.heard)))
    train_adapters(
        PluginHost.of(ear), store, [replace(job_of(records["sentiment"]), callback=callback)], bert
    )
    assert seen == [0, 2]


def test_a_pull_and_a_later_one(ear: Ear, store: Store, words: Store, bert: Backbone, tmp_path: Path) -> None:
    puller = Puller(store, PluginHost.of(ear), lambda _: bert)
    for ref in ("people@1", "people@2"):
        location = share(words.resolve(ref), tmp_path / "shared" / "people")
        puller.pull(location)
        puller.pull(location)  # it is there already
    assert ear.heard == [("stored", "people@1"), ("stored", "people@2")]


def test_an_import_of_plain_peft(
    ear: Ear, store: Store, words: Store, bert: Backbone, tmp_path: Path
) -> None:
    stored, folder = words.resolve("people@1"), tmp_path / "plain"
    export_adapter(stored, TASKS["ner"], bert, "peft", folder)
    labels = stored.read().manifest.labels
    puller = Puller(store, PluginHost.of(ear), lambda _: bert)
    puller.pull_peft(Location.parse(folder.as_uri()), TASKS["ner"], lambda *_: bert, labels)
    assert ear.heard == [("stored", "plain@1")]


def test_a_swap_has_the_serving_name_and_both_versions(ear: Ear, words: Store, bert: Backbone) -> None:
    trunk = OneTrunk(bert, store=words, host=PluginHost.of(ear))
    for reference in ("people@2", "mood@1", "mood"):
        trunk.registry.load(reference, "served")
    assert ear.heard == [("swapped", "served", None, "people@2"), ("swapped", "served", "people@2", "mood@1")]


def test_an_unload_has_the_serving_name_and_the_version(ear: Ear, words: Store, bert: Backbone) -> None:
    trunk = OneTrunk(bert, store=words, host=PluginHost.of(ear))
    trunk.registry.load("people@1", "served")
    trunk.unload("served")
    assert ear.heard[1:] == [("unloaded", "served", "people@1")]
