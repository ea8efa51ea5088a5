"""`load` and `unload`: which version serves a name, also while other threads predict."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from onetrunk.adapters.store.store import Store
from onetrunk.core import OneTrunk
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import ArtifactError, UnknownAdapter, UsageError
from onetrunk.core.inference.predictor import CHUNK
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import TaskSpec
from onetrunk.core.tasks.hookspecs import hookimpl
from tests.core.inference.predictions import TASKS, Texts, same


def test_load_returns_the_version_and_loaded_lists_it(bert: Backbone, store: Store) -> None:
    trunk = OneTrunk(bert, store=store)
    assert trunk.loaded == {}
    assert [trunk.load(ref) for ref in ("sentiment", "sentiment@prod", "sentiment@2")] == [
        "sentiment@3",
        "sentiment@1",
        "sentiment@2",
    ]
    assert trunk.loaded == {
        "sentiment": "sentiment@3",
        "sentiment@prod": "sentiment@1",
        "sentiment@2": "sentiment@2",
    }


def test_predicting_with_an_adapter_that_is_not_loaded_is_refused(trunk: OneTrunk) -> None:
    with pytest.raises(
        UsageError, match=r"'ner@1' is not loaded; loaded: ner, sentiment, intent; call load\('ner@1'\)"
    ):
        trunk.predict(["a"], ["ner", "ner@1"])


def test_loading_an_unknown_adapter_changes_nothing(trunk: OneTrunk) -> None:
    before = trunk.loaded
    with pytest.raises(UnknownAdapter, match="no adapter 'topics'"):
        trunk.load("topics")
    assert trunk.loaded == before


@pytest.mark.parametrize("location", ["acme/ner", "file:///tmp/ner"])
def test_a_location_needs_a_resolver(trunk: OneTrunk, location: str) -> None:
    with pytest.raises(UsageError, match=r"is a location.*pass resolve=Puller"):
        trunk.load(location)


def test_an_unloaded_adapter_cannot_be_unloaded_again(trunk: OneTrunk) -> None:
    trunk.unload("ner")
    assert set(trunk.loaded) == {"sentiment", "intent"}
    with pytest.raises(UsageError, match="adapter 'ner' is not loaded"):
        trunk.unload("ner")


def test_adapter_swapped_is_called_once_after_each_change(bert: Backbone, store: Store) -> None:
    calls: list[tuple[str, str | None, str, str]] = []
    serving: list[OneTrunk] = []

    class Plugin:
        @hookimpl
        def tasks(self) -> list[TaskSpec]:
            return [PluginHost.discover().task("sentiment")]

        @hookimpl
        def adapter_swapped(self, name: str, old: str | None, new: str) -> None:
            calls.append((name, old, new, serving[0].loaded["sentiment@prod"]))

    trunk = OneTrunk(bert, store=store, host=PluginHost.of(Plugin()))
    serving.append(trunk)
    trunk.load("sentiment@prod")
    trunk.load("sentiment@prod")
    store.alias("sentiment", "prod", 2)
    trunk.load("sentiment@prod")
    store.alias("sentiment", "prod", 1)
    name = "sentiment@prod"
    assert calls == [
        (name, None, "sentiment@1", "sentiment@1"),
        (name, "sentiment@1", "sentiment@2", "sentiment@2"),
    ]


def test_a_running_prediction_keeps_the_adapters_it_began_with(trunk: OneTrunk) -> None:
    answers = trunk.predict_stream((f"good {i}" for i in range(CHUNK + 1)), ["sentiment"])
    first = next(answers)
    trunk.unload("sentiment")
    *_, last = answers
    assert first[0].adapter == last[0].adapter == "sentiment@3"


@pytest.mark.parametrize("memory", [None, 0, 8000])
def test_threads_predict_while_versions_come_and_go(
    bert: Backbone, store: Store, some_texts: Texts, memory: int | None
) -> None:
    texts, trunk = some_texts(12), OneTrunk(bert, store=store, memory=memory)
    for task in TASKS:
        trunk.load(task)
    versions = ("sentiment@1", "sentiment@2", "sentiment@3")
    for ref in versions:
        trunk.load(ref)
    alone = [trunk.predict([text], [ref])[0][0] for ref in ("ner", *versions) for text in texts]
    solo = {(found.adapter, found.text): found for found in alone}
    trunk.load("sentiment@prod")
    checksum, stop, seen = trunk.trunk.checksum(), threading.Event(), set[str]()

    def predict(start: int) -> int:
        rounds = 0
        while not stop.is_set() or not rounds:
            own = texts[start:] + texts[:start]
            for text, row in zip(
                own, trunk.predict(own, ["sentiment@prod", "ner"], batch_tokens=80), strict=True
            ):
                for found in row:
                    assert found.text == text
                    assert same(found, solo[found.adapter, text])
                    seen.add(found.adapter)
            rounds += 1
        return rounds

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(predict, start) for start in range(4)]
        try:
            for turn in range(24):
                store.alias("sentiment", "prod", 1 + turn % 3)
                trunk.load("sentiment@prod")
                trunk.load("intent@1")
                trunk.unload("intent@1")
                patience = time.monotonic() + 60
                while versions[turn % 3] not in seen and time.monotonic() < patience:
                    time.sleep(0.001)  # a swap may be quicker than a prediction
        finally:
            stop.set()
        assert all(future.result() > 0 for future in running)
    store.alias("sentiment", "prod", 1)
    assert seen == {"ner@1", *versions}
    assert trunk.trunk.checksum() == checksum
    assert trunk.bank.usage.installed == len(set(trunk.loaded.values()))
    assert (trunk.bank.usage.disk_loads > 0) == (memory is not None)


def test_concurrent_loads_of_different_names_all_take_effect(bert: Backbone, store: Store) -> None:
    trunk = OneTrunk(bert, store=store)
    references = [
        "ner",
        "ner@1",
        "sentiment",
        "sentiment@1",
        "sentiment@2",
        "sentiment@3",
        "intent",
        "intent@1",
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(trunk.load, references))
    assert set(trunk.loaded) == set(references)


def test_concurrent_loads_of_one_name_take_place_in_order(bert: Backbone, store: Store) -> None:
    trunk = OneTrunk(bert, store=store)
    registry = trunk.registry
    references = [f"sentiment@{1 + i % 3}" for i in range(6)]
    befores: list[str | None] = []

    def load(reference: str) -> None:
        _, before = registry.load(reference, "mood")
        befores.append(None if before is None else before.version)

    with ThreadPoolExecutor(6) as pool, registry._exclusive("mood"):
        for i, reference in enumerate(references):
            pool.submit(load, reference)
            until = time.monotonic() + 10
            while len(registry._loading["mood"]) < i + 2 and time.monotonic() < until:
                time.sleep(0.001)
    assert befores == [None, *references[:-1]]
    assert registry._loading == {}


def test_a_backbone_folder_is_served_from_the_default_store(bert_folder: Path, home: Path) -> None:
    trunk = OneTrunk(bert_folder)
    assert trunk.store.root == home
    assert trunk.loaded == {}


@pytest.mark.parametrize("memory", [None, 0])
def test_threads_predict_while_the_version_they_use_is_replaced(
    bert: Backbone, own_store: Store, memory: int | None
) -> None:
    trunk, stop = OneTrunk(bert, store=own_store, memory=memory), threading.Event()
    trunk.load("sentiment@prod")

    def predict() -> set[str]:
        seen = set[str]()
        while not stop.is_set():
            seen |= {row[0].adapter for row in trunk.predict(["good"], ["sentiment@prod"])}
        return seen

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(predict) for _ in range(3)]
        try:
            for turn in range(40):
                own_store.alias("sentiment", "prod", 1 + turn % 3)
                trunk.load("sentiment@prod")
        finally:
            stop.set()
        seen = set[str]().union(*(future.result() for future in running))
    assert seen == {"sentiment@1", "sentiment@2", "sentiment@3"}
    assert trunk.bank.usage.installed == 1


def test_a_swap_frees_the_old_version(bert: Backbone, own_store: Store) -> None:
    trunk = OneTrunk(bert, store=own_store)
    trunk.load("sentiment@prod")
    before = trunk.bank.usage
    own_store.alias("sentiment", "prod", 2)
    trunk.load("sentiment@prod")
    assert trunk.bank.usage.installed == before.installed == 1


def test_a_loaded_version_is_not_read_again_for_another_reference(bert: Backbone, own_store: Store) -> None:
    trunk = OneTrunk(bert, store=own_store)
    trunk.load("sentiment@1")
    (own_store.root / "sentiment" / "1" / "adapter_model.safetensors").write_bytes(b"spoilt")
    assert trunk.load("sentiment@prod") == "sentiment@1"
    assert trunk.predict(["good"], ["sentiment@1"]) == trunk.predict(["good"], ["sentiment@prod"])
    with pytest.raises(ArtifactError, match=r"adapter_model.safetensors has 6 bytes"):
        OneTrunk(bert, store=own_store).load("sentiment@prod")


def test_a_stream_goes_on_with_adapters_that_were_evicted_and_unloaded_meanwhile(
    bert: Backbone, own_store: Store
) -> None:
    trunk = OneTrunk(bert, store=own_store, memory=0)
    trunk.load("sentiment")
    answers = trunk.predict_stream((f"good {i}" for i in range(CHUNK + 1)), ["sentiment"])
    next(answers)
    trunk.unload("sentiment")
    shutil.rmtree(own_store.root / "sentiment")
    *_, last = answers
    assert last[0].adapter == "sentiment@3"
