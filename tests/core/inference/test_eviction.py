"""The memory limit of loaded adapters: eviction, and reloading from the store with checks."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from onetrunk.adapters.format.artifact import read_artifact
from onetrunk.adapters.methods.flat_layout import size_of
from onetrunk.adapters.store.store import Store
from onetrunk.core import OneTrunk
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import AdapterRejected, HashMismatch
from onetrunk.core.inference.adapter_io import load_adapter
from tests.core.inference.predictions import TASKS, Texts


def logits_of(trunk: OneTrunk, reference: str, texts: list[str]) -> list[bytes]:
    """Return the logits of `texts`, each as its bytes."""
    spec = trunk.host.task(reference.partition("@")[0])
    with trunk.registry.in_use([reference]) as (adapter,):
        return [each.tobytes() for each in trunk.logits([spec.unlabelled(text) for text in texts], adapter)]


def size_of_largest(trunk: OneTrunk) -> int:
    with trunk.registry.in_use(list(trunk.loaded)) as adapters:
        return max(size_of(adapter.lora) for adapter in adapters)


def test_without_a_memory_limit_no_adapter_is_evicted(trunk: OneTrunk) -> None:
    trunk.predict(["good"], TASKS)
    usage = trunk.bank.usage
    assert (usage.installed, usage.device_adapters, usage.evictions, usage.disk_loads) == (3, 3, 0, 0)


def test_reloaded_adapters_give_bit_identical_logits(
    trunk: OneTrunk, bert: Backbone, store: Store, some_texts: Texts
) -> None:
    texts, memory = some_texts(12), size_of_largest(trunk)
    small = OneTrunk(bert, store=store, memory=memory)
    for task in TASKS:
        small.load(task)
    for turn in range(2):
        for task in TASKS:
            assert logits_of(small, task, texts) == logits_of(trunk, task, texts)
            assert small.bank.usage.device_bytes <= memory
        assert small.bank.usage.disk_loads > turn


@pytest.mark.parametrize("memory", [0, 1, 20_000])
def test_a_batch_that_needs_more_than_the_memory_limit_gives_the_same_predictions(
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
    memory = size_of_largest(trunk)
    trunk = OneTrunk(bert, store=store, memory=memory)
    trunk.load("sentiment@1")
    with trunk.registry.in_use(["sentiment@1"]) as (adapter,):
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


def test_a_version_replaced_on_disk_is_read_and_the_loaded_one_stays(
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
    index["ids"]["1"] = index["ids"]["2"]  # as in a new store that has used the number again
    (home / "adapter.json").write_text(json.dumps(index))
    trunk.load("sentiment@prod")
    assert logits_of(trunk, "sentiment@prod", texts) == second
    assert logits_of(trunk, "sentiment@1", texts) == first
    assert trunk.load("sentiment@1") == "sentiment@1"
    assert logits_of(trunk, "sentiment@1", texts) == second


def test_an_evicted_adapter_whose_files_were_changed_is_not_reloaded(
    bert: Backbone, own_store: Store
) -> None:
    trunk = OneTrunk(bert, store=own_store, memory=0)
    trunk.load("sentiment@1")
    path = own_store.root / "sentiment" / "1" / "adapter_model.safetensors"
    save_file({key: -tensor for key, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    with pytest.raises(HashMismatch, match=r"adapter_model.safetensors has sha256"):
        trunk.predict(["good"], ["sentiment@1"])


def test_an_evicted_adapter_that_was_replaced_by_another_valid_one_is_not_reloaded(
    bert: Backbone, own_store: Store
) -> None:
    """The new weights do not belong to the head that is still in memory."""
    home = own_store.root / "sentiment"
    (home / "adapter.json").unlink()  # it records the ids of the versions
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
    (folder.parent / "adapter.json").unlink()  # it records the ids of the versions
    trunk = OneTrunk(bert, store=own_store)
    with pytest.raises(AdapterRejected, match=r"ner@1: its probe gives logits that differ"):
        trunk.load("ner")
    assert trunk.bank.usage.installed == 0


@pytest.mark.parametrize("alpha", [3.0, 8.0, 10.0])
def test_an_adapter_in_the_bank_gives_the_logits_of_its_separate_factors(
    bert: Backbone, train_tiny: Callable[..., Any], tmp_path: Path, some_texts: Texts, alpha: float
) -> None:
    stored = train_tiny(Store(tmp_path), "sentiment", bert, lr=0.05, alpha=alpha).stored
    trunk = OneTrunk(bert, store=Store(tmp_path))
    trunk.load("sentiment")
    artifact = read_artifact(stored.path)
    spec = trunk.host.task("sentiment")
    separate = load_adapter(stored.ref, artifact, spec, bert, trunk.trunk)
    assert {update.scale for update in separate.lora.updates.values()} == {alpha / 4}
    examples = [spec.unlabelled(text) for text in some_texts(20)]
    with trunk.registry.in_use(["sentiment"]) as (adapter,):
        found = np.concatenate(trunk.logits(examples, adapter))
    expected = np.concatenate(trunk.logits(examples, separate))
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 2e-6
