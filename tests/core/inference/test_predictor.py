from __future__ import annotations

import gc
import json
import math
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from onetrunk.adapters.format.artifact import read_artifact
from onetrunk.adapters.methods.flat_layout import size_of
from onetrunk.adapters.store.store import Store
from onetrunk.core import OneTrunk
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.data.dataset import Dataset, content_sha256
from onetrunk.core.errors import (
    AdapterRejected,
    ArtifactError,
    DataError,
    HashMismatch,
    UnknownAdapter,
    UsageError,
)
from onetrunk.core.inference.adapter_io import load_adapter
from onetrunk.core.inference.predictor import CHUNK
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Record, TaskSpec
from onetrunk.core.tasks.hookspecs import hookimpl
from onetrunk.core.tasks.prediction import Prediction

Texts = Callable[[int], list[str]]
TASKS = ("ner", "sentiment", "intent")
ODD = ["", " ", "\u200b", "🙂", "x" * 5000, "good " * 400, "東京 film", "a\x00b", "half \ud83d pair"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, train_tiny: Callable[..., Any], bert: Backbone) -> Store:
    """Three tasks, ranks 4, 8 and 16 and other targets, and two more versions of sentiment, `prod` on the first."""
    store = Store(tmp_path_factory.mktemp("store"))
    shapes: list[dict[str, Any]] = [
        {"rank": 4},
        {"rank": 8, "targets": ("query", "value"), "pooling": "mean"},
        {"rank": 16, "layers": "last-1"},
    ]
    for task, shape in zip(TASKS, shapes, strict=True):
        train_tiny(store, task, bert, lr=0.05, **shape)
    for seed in (1, 2):
        train_tiny(store, "sentiment", bert, lr=0.05, seed=seed)
    store.alias("sentiment", "prod", 1)
    return store


@pytest.fixture
def trunk(bert: Backbone, store: Store) -> OneTrunk:
    trunk = OneTrunk(bert, store=store)
    for task in TASKS:
        trunk.load(task)
    return trunk


def same(found: Prediction, expected: Prediction) -> bool:
    """Equal but for the last digits of floats, which depend on the batch."""

    def close(a: Any, b: Any) -> bool:
        if isinstance(a, dict):
            return isinstance(b, dict) and a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
        if isinstance(a, list):
            return len(a) == len(b) and all(map(close, a, b))
        return math.isclose(a, b, abs_tol=1e-5) if isinstance(a, float) else bool(a == b)

    return close(found.to_json(), expected.to_json())


# What is answered


def test_every_text_gets_every_adapters_answer_in_the_order_asked(trunk: OneTrunk, some_texts: Texts) -> None:
    texts = some_texts(20)
    found = trunk.predict(texts, ["sentiment", "ner", "intent"])
    assert [[p.text for p in row] for row in found] == [[text] * 3 for text in texts]
    assert {tuple(p.adapter for p in row) for row in found} == {("sentiment@3", "ner@1", "intent@1")}


@pytest.mark.parametrize("batch_tokens", [1, 50, 10**9])
def test_texts_and_tasks_in_one_batch_get_what_they_get_alone(
    trunk: OneTrunk, some_texts: Texts, batch_tokens: int
) -> None:
    texts = [*some_texts(20), *ODD]
    mixed = trunk.predict(texts, TASKS, batch_tokens=batch_tokens)
    for text, row in zip(texts, mixed, strict=True):
        for task, found in zip(TASKS, row, strict=True):
            ((alone,),) = trunk.predict([text], [task])
            assert same(found, alone)


@pytest.mark.parametrize("asked", [("ner",), TASKS, ("intent", "intent")])
def test_a_batch_in_lanes_gets_the_answers_of_a_batch_as_a_whole(
    trunk: OneTrunk, some_texts: Texts, asked: tuple[str, ...]
) -> None:
    texts, before = [*some_texts(200), "good " * 900], torch.get_num_threads()
    found = {}
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found[threads] = trunk.predict(texts, asked)
    finally:
        torch.set_num_threads(before)
    for in_lanes, whole in zip(found[2], found[1], strict=True):
        assert all(map(same, in_lanes, whole))


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_every_odd_text_gets_a_json_answer_with_exact_offsets(trunk: OneTrunk, text: str) -> None:
    (row,) = trunk.predict([text], TASKS)
    for prediction in row:
        assert json.loads(json.dumps(prediction.to_json())) == prediction.to_json()
    for entity in row[0].result["entities"]:
        assert entity["text"] == text[entity["start"] : entity["end"]]
        assert entity["text"].strip()


def test_no_text_gets_no_answer(trunk: OneTrunk) -> None:
    assert trunk.predict([], TASKS) == []


def test_no_adapter_gives_each_text_an_empty_row(trunk: OneTrunk) -> None:
    assert trunk.predict(["a", "b"], []) == [[], []]


def test_the_same_text_and_the_same_adapter_may_be_asked_twice(trunk: OneTrunk) -> None:
    first, second = trunk.predict(["good", "good"], ["ner", "ner"])
    assert len(first) == 2
    assert first == second


def test_a_stream_is_answered_in_order_and_read_as_it_goes(trunk: OneTrunk) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield f"good {read}"

    answers = trunk.predict_stream(endless(), ["sentiment"])
    assert [next(answers)[0].text for _ in range(3)] == ["good 1", "good 2", "good 3"]
    assert read == CHUNK


def test_a_bare_string_is_no_sequence_of_texts(trunk: OneTrunk) -> None:
    with pytest.raises(TypeError, match="texts must be a list of strings"):
        trunk.predict("good film", ["ner"])


def test_a_generator_is_refused_and_not_answered_with_nothing(trunk: OneTrunk) -> None:
    with pytest.raises(TypeError, match="texts must be a list of strings"):
        trunk.predict((text for text in ["good film"]), ["ner"])  # type: ignore[arg-type]


def test_a_bare_string_is_no_list_of_adapters(trunk: OneTrunk) -> None:
    with pytest.raises(TypeError, match="adapters must be a list of strings"):
        trunk.predict(["good film"], "ner")


def test_a_text_that_is_no_string_is_told(trunk: OneTrunk) -> None:
    with pytest.raises(TypeError, match="texts must be a list of strings"):
        trunk.predict([None], ["ner"])  # type: ignore[list-item]


def test_metrics_of_a_loaded_adapter_are_those_of_its_training(
    trunk: OneTrunk, store: Store, records: dict[str, list[Record]]
) -> None:
    from onetrunk.adapters.format.artifact import read_manifest

    for task in TASKS:
        spec = trunk.host.task(task)
        examples = tuple(map(spec.read, records[task]))
        found = trunk.evaluate(task, Dataset(examples, "rows", content_sha256(examples)))
        assert found == read_manifest(store.resolve(task).path).metrics["dev"]


def test_labels_that_an_adapter_does_not_know_are_told(trunk: OneTrunk) -> None:
    examples = (trunk.host.task("sentiment").read({"text": "a", "label": "strange"}),)
    with pytest.raises(DataError, match="unknown label 'strange'"):
        trunk.evaluate("sentiment", Dataset(examples, "rows", content_sha256(examples)))


# What is loaded


def test_loading_tells_the_version_and_loaded_lists_it(bert: Backbone, store: Store) -> None:
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


def test_an_adapter_that_is_not_loaded_is_told(trunk: OneTrunk) -> None:
    with pytest.raises(
        UsageError, match=r"'ner@1' is not loaded; loaded: ner, sentiment, intent; call load\('ner@1'\)"
    ):
        trunk.predict(["a"], ["ner", "ner@1"])


def test_an_adapter_that_is_not_in_the_store_changes_nothing(trunk: OneTrunk) -> None:
    before = trunk.loaded
    with pytest.raises(UnknownAdapter, match="no adapter 'topics'"):
        trunk.load("topics")
    assert trunk.loaded == before


def test_unloaded_is_gone_and_cannot_go_twice(trunk: OneTrunk) -> None:
    trunk.unload("ner")
    assert set(trunk.loaded) == {"sentiment", "intent"}
    with pytest.raises(UsageError, match="adapter 'ner' is not loaded"):
        trunk.unload("ner")


def test_plugins_hear_of_a_swap_after_it_and_only_of_a_change(bert: Backbone, store: Store) -> None:
    heard: list[tuple[str, str | None, str, str]] = []
    serving: list[OneTrunk] = []

    class Plugin:
        @hookimpl
        def tasks(self) -> list[TaskSpec]:
            return [PluginHost.discover().task("sentiment")]

        @hookimpl
        def adapter_swapped(self, name: str, old: str | None, new: str) -> None:
            heard.append((name, old, new, serving[0].loaded["sentiment@prod"]))

    trunk = OneTrunk(bert, store=store, host=PluginHost.of(Plugin()))
    serving.append(trunk)
    trunk.load("sentiment@prod")
    trunk.load("sentiment@prod")
    store.alias("sentiment", "prod", 2)
    trunk.load("sentiment@prod")
    store.alias("sentiment", "prod", 1)
    name = "sentiment@prod"
    assert heard == [
        (name, None, "sentiment@1", "sentiment@1"),
        (name, "sentiment@1", "sentiment@2", "sentiment@2"),
    ]


def test_a_prediction_under_way_keeps_the_adapters_it_began_with(trunk: OneTrunk) -> None:
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
                    time.sleep(0.001)  # a turn may be shorter than a prediction
        finally:
            stop.set()
        assert all(future.result() > 0 for future in running)
    store.alias("sentiment", "prod", 1)
    assert seen == {"ner@1", *versions}
    assert trunk.trunk.checksum() == checksum
    assert trunk.bank.usage.installed == len(set(trunk.loaded.values()))
    assert (trunk.bank.usage.disk_loads > 0) == (memory is not None)


def test_threads_that_load_at_once_lose_none_of_their_loads(bert: Backbone, store: Store) -> None:
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


def test_threads_that_load_one_name_at_once_have_their_turns_in_order(bert: Backbone, store: Store) -> None:
    trunk = OneTrunk(bert, store=store)
    residents = trunk.residents
    references = [f"sentiment@{1 + i % 3}" for i in range(6)]
    befores: list[str | None] = []

    def load(reference: str) -> None:
        _, before = residents.load(reference, "mood")
        befores.append(None if before is None else before.version)

    with ThreadPoolExecutor(6) as pool, residents._turn("mood"):
        for i, reference in enumerate(references):
            pool.submit(load, reference)
            until = time.monotonic() + 10
            while len(residents._loading["mood"]) < i + 2 and time.monotonic() < until:
                time.sleep(0.001)
    assert befores == [None, *references[:-1]]
    assert residents._loading == {}


def test_a_trunk_is_made_of_a_folder_and_of_the_users_own_store(bert_folder: Path, home: Path) -> None:
    trunk = OneTrunk(bert_folder, device="cpu", dtype="fp32")
    assert trunk.store.root == home
    assert trunk.loaded == {}


# What stays in memory


@pytest.fixture
def own_store(store: Store, tmp_path: Path) -> Store:
    """A copy of the store, to spoil."""
    return Store(shutil.copytree(store.root, tmp_path / "store"))


def logits_of(trunk: OneTrunk, reference: str, texts: list[str]) -> list[bytes]:
    """Return every bit of the logits of `texts`."""
    spec = trunk.host.task(reference.partition("@")[0])
    with trunk.residents.in_use([reference]) as (adapter,):
        return [each.tobytes() for each in trunk.logits([spec.unlabelled(text) for text in texts], adapter)]


def room_for_one(trunk: OneTrunk) -> int:
    with trunk.residents.in_use(list(trunk.loaded)) as adapters:
        return max(size_of(adapter.lora) for adapter in adapters)


def test_without_a_bound_every_adapter_stays(trunk: OneTrunk) -> None:
    trunk.predict(["good"], TASKS)
    usage = trunk.bank.usage
    assert (usage.installed, usage.device_adapters, usage.evictions, usage.disk_loads) == (3, 3, 0, 0)


def test_evicted_adapters_come_back_with_equal_bits(
    trunk: OneTrunk, bert: Backbone, store: Store, some_texts: Texts
) -> None:
    texts, memory = some_texts(12), room_for_one(trunk)
    small = OneTrunk(bert, store=store, memory=memory)
    for task in TASKS:
        small.load(task)
    for turn in range(2):
        for task in TASKS:
            assert logits_of(small, task, texts) == logits_of(trunk, task, texts)
            assert small.bank.usage.device_bytes <= memory
        assert small.bank.usage.disk_loads > turn


@pytest.mark.parametrize("memory", [0, 1, 20_000])
def test_a_batch_that_needs_more_than_the_memory_is_answered_as_without_a_bound(
    trunk: OneTrunk, bert: Backbone, store: Store, some_texts: Texts, memory: int
) -> None:
    small = OneTrunk(bert, store=store, memory=memory)
    for task in TASKS:
        small.load(task)
    assert small.predict(some_texts(12), TASKS) == trunk.predict(some_texts(12), TASKS)
    assert small.bank.usage.device_bytes <= memory


def test_an_evicted_adapter_leaves_no_tensor_behind(bert: Backbone, store: Store) -> None:
    trunk = OneTrunk(bert, store=store)
    trunk.load("sentiment")
    memory = room_for_one(trunk)
    trunk = OneTrunk(bert, store=store, memory=memory)
    trunk.load("sentiment@1")
    with trunk.residents.in_use(["sentiment@1"]) as (adapter,):
        flat = weakref.ref(adapter.lora.flat)
    del adapter
    trunk.load("sentiment@2")
    gc.collect()
    assert flat() is None


def test_a_version_under_two_references_is_in_memory_once_until_both_are_unloaded(
    bert: Backbone, store: Store
) -> None:
    trunk = OneTrunk(bert, store=store)
    for reference in ("sentiment@1", "sentiment@prod"):
        trunk.load(reference)
    assert trunk.bank.usage.installed == 1
    trunk.unload("sentiment@1")
    assert trunk.predict(["good"], ["sentiment@prod"])[0][0].adapter == "sentiment@1"
    trunk.unload("sentiment@prod")
    assert (trunk.bank.usage.installed, trunk.bank.usage.device_bytes) == (0, 0)


def test_a_swap_lets_go_of_the_old_version(bert: Backbone, own_store: Store) -> None:
    trunk = OneTrunk(bert, store=own_store)
    trunk.load("sentiment@prod")
    before = trunk.bank.usage
    own_store.alias("sentiment", "prod", 2)
    trunk.load("sentiment@prod")
    assert trunk.bank.usage.installed == before.installed == 1


@pytest.mark.parametrize("memory", [None, 0])
def test_threads_predict_while_the_version_they_use_is_forgotten(
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


def test_a_version_in_service_is_not_read_again_for_another_reference(
    bert: Backbone, own_store: Store
) -> None:
    trunk = OneTrunk(bert, store=own_store)
    trunk.load("sentiment@1")
    (own_store.root / "sentiment" / "1" / "adapter_model.safetensors").write_bytes(b"spoilt")
    assert trunk.load("sentiment@prod") == "sentiment@1"
    assert trunk.predict(["good"], ["sentiment@1"]) == trunk.predict(["good"], ["sentiment@prod"])
    with pytest.raises(ArtifactError, match=r"adapter_model.safetensors has 6 bytes"):
        OneTrunk(bert, store=own_store).load("sentiment@prod")


def test_a_version_that_is_another_on_disk_is_read_and_the_one_in_service_stays(
    bert: Backbone, own_store: Store, some_texts: Texts
) -> None:
    trunk, texts = OneTrunk(bert, store=own_store), some_texts(10)
    for reference in ("sentiment@1", "sentiment@2"):
        trunk.load(reference)
    first, second = (logits_of(trunk, reference, texts) for reference in ("sentiment@1", "sentiment@2"))
    home = own_store.root / "sentiment"
    shutil.rmtree(home / "1")
    shutil.copytree(home / "2", home / "1")
    index = json.loads((home / "adapter.json").read_text())
    index["ids"]["1"] = index["ids"]["2"]  # as in a new store, where the number has been given anew
    (home / "adapter.json").write_text(json.dumps(index))
    trunk.load("sentiment@prod")
    assert logits_of(trunk, "sentiment@prod", texts) == second
    assert logits_of(trunk, "sentiment@1", texts) == first
    assert trunk.load("sentiment@1") == "sentiment@1"
    assert logits_of(trunk, "sentiment@1", texts) == second


def test_an_evicted_adapter_whose_files_were_changed_does_not_come_back(
    bert: Backbone, own_store: Store
) -> None:
    trunk = OneTrunk(bert, store=own_store, memory=0)
    trunk.load("sentiment@1")
    path = own_store.root / "sentiment" / "1" / "adapter_model.safetensors"
    save_file({key: -tensor for key, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    with pytest.raises(HashMismatch, match=r"adapter_model.safetensors has sha256"):
        trunk.predict(["good"], ["sentiment@1"])


def test_an_evicted_adapter_that_was_replaced_by_a_sound_one_does_not_come_back(
    bert: Backbone, own_store: Store
) -> None:
    """Its weights would meet the head of the one that was loaded."""
    home = own_store.root / "sentiment"
    (home / "adapter.json").unlink()  # which knows what was stored
    trunk = OneTrunk(bert, store=own_store, memory=0)
    trunk.load("sentiment@1")
    shutil.rmtree(home / "1")
    shutil.copytree(home / "2", home / "1")
    with pytest.raises(
        AdapterRejected, match=r"sentiment@1: .* has changed since it was loaded; load it again"
    ):
        trunk.predict(["good"], ["sentiment@1"])
    trunk.load("sentiment@1")
    assert trunk.predict(["good"], ["sentiment@1"])[0][0].adapter == "sentiment@1"


def test_changed_updates_with_corrected_hashes_fail_the_probe_of_a_load(
    bert: Backbone, own_store: Store
) -> None:
    folder = own_store.root / "ner" / "1"
    path = folder / "adapter_model.safetensors"
    weights = {key: -tensor if "lora_B" in key else tensor for key, tensor in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
    manifest = json.loads((folder / "task.json").read_text())
    manifest["files"][path.name]["sha256"] = sha256(path.read_bytes()).hexdigest()
    manifest["files"][path.name]["bytes"] = path.stat().st_size
    (folder / "task.json").write_text(json.dumps(manifest))
    (folder.parent / "adapter.json").unlink()  # which knows what was stored
    trunk = OneTrunk(bert, store=own_store)
    with pytest.raises(AdapterRejected, match=r"ner@1: probe .* gives logits that differ"):
        trunk.load("ner")
    assert trunk.bank.usage.installed == 0


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


@pytest.mark.parametrize("alpha", [3.0, 8.0, 10.0])
def test_an_adapter_in_the_bank_answers_as_its_factors_do_one_by_one(
    bert: Backbone, train_tiny: Callable[..., Any], tmp_path: Path, some_texts: Texts, alpha: float
) -> None:
    stored = train_tiny(Store(tmp_path), "sentiment", bert, lr=0.05, alpha=alpha).stored
    trunk = OneTrunk(bert, store=Store(tmp_path))
    trunk.load("sentiment")
    artifact = read_artifact(stored.path)
    spec = trunk.host.task("sentiment")
    apart = load_adapter(stored.ref, artifact, spec, bert, trunk.trunk)
    assert {update.scale for update in apart.lora.updates.values()} == {alpha / 4}
    examples = [spec.unlabelled(text) for text in some_texts(20)]
    with trunk.residents.in_use(["sentiment"]) as (adapter,):
        found = np.concatenate(trunk.logits(examples, adapter))
    expected = np.concatenate(trunk.logits(examples, apart))
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 2e-6
