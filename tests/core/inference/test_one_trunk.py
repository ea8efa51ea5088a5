"""One tokenizer and one copy of the weights in a process that loads, pulls, trains and predicts at once."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from onetrunk.adapters.remotes import open_remote
from onetrunk.adapters.remotes.locations import Location
from onetrunk.adapters.remotes.remote import MAIN
from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone, fingerprint
from onetrunk.core.errors import BackboneError
from onetrunk.core.inference.predictor import OneTrunk
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.sharing.pull import Puller
from onetrunk.core.testing import tiny_backbone
from onetrunk.core.trunk.build import trunk_of

Train = Callable[..., Any]
LOADS = 200


@pytest.fixture
def own(tmp_path: Path) -> Backbone:
    """A backbone whose files a test may change."""
    return Backbone.load(tiny_backbone(tmp_path / "backbone"), device="cpu", dtype="fp32")


def overwrite(backbone: Backbone) -> None:
    """Write zeros over the weights, in place, as another program might."""
    file = backbone.folder / "model.safetensors"
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 4)
        stream.write(bytes(file.stat().st_size // 2))


def test_threads_predict_while_200_versions_are_loaded_and_swapped(
    bert: Backbone, train_tiny: Train, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    for seed in range(3):
        train_tiny(store, "sentiment", bert, lr=0.05, seed=seed)
    texts, single = [f"the film was {word} " * 40 for word in ("good", "bad")], OneTrunk(bert, store=store)
    expected = {}
    for version in range(1, 4):
        single.load(f"sentiment@{version}")
        expected[f"sentiment@{version}"] = single.predict(texts, [f"sentiment@{version}"])
    trunk, stop = OneTrunk(bert, store=store), threading.Event()
    store.alias("sentiment", "prod", 1)
    trunk.load("sentiment@prod")

    def predict() -> set[str]:
        seen = set[str]()
        while not stop.is_set():
            rows = trunk.predict(texts * 16, ["sentiment@prod"])
            for row, (answer,) in enumerate(rows):
                right = expected[answer.adapter][row % len(texts)][0].result
                assert answer.result["label"] == right["label"]
                assert answer.result["scores"] == pytest.approx(right["scores"], abs=1e-4)
                seen.add(answer.adapter)
        return seen

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(predict) for _ in range(4)]
        try:
            for turn in range(LOADS):
                store.alias("sentiment", "prod", 1 + turn % 3)
                trunk.load("sentiment@prod")  # each reads its version again: nothing else serves it
        finally:
            stop.set()
        seen = set[str]().union(*(future.result() for future in running))
    assert seen == set(expected)


def test_what_asks_for_a_trunk_in_use_gets_it(bert: Backbone) -> None:
    trunk = trunk_of(bert)
    with ThreadPoolExecutor(4) as pool:
        assert {id(each) for each in pool.map(lambda _: trunk_of(bert), range(8))} == {id(trunk)}
    assert trunk_of(bert, torch.bfloat16) is not trunk
    assert trunk_of(replace(bert)) is not trunk


def test_training_on_from_a_version_beside_a_service_builds_no_second_trunk(
    own: Backbone, train_tiny: Train, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    trunk = OneTrunk(own, store=store)
    (own.folder / "model.safetensors").unlink()  # of which a second one would be built
    first = train_tiny(store, "sentiment", own).stored
    second = train_tiny(store, "sentiment", own, start=first).stored
    assert trunk.load("sentiment") == second.ref


def test_a_pull_beside_a_service_builds_no_second_trunk(
    own: Backbone, train_tiny: Train, tmp_path: Path
) -> None:
    store, host = Store(tmp_path / "store"), PluginHost.discover()
    trunk = OneTrunk(own, store=store, host=host, resolve=Puller(store, host, lambda _: own).resolve)
    elsewhere = train_tiny(Store(tmp_path / "elsewhere"), "sentiment", own).stored.path
    (own.folder / "model.safetensors").unlink()
    location = Location.parse(f"file://{tmp_path / 'remote'}")
    files = {file.name: file for file in elsewhere.iterdir()}
    open_remote(location).publish(files, branch=MAIN, parent=None, message="first", pull_request=False)
    assert trunk.load(str(location)).endswith("@1")


def test_a_trunk_that_nobody_uses_leaves_memory(own: Backbone) -> None:
    trunk = trunk_of(own)
    del trunk
    (own.folder / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match=r"model\.safetensors is missing"):
        trunk_of(own)


def test_a_trunk_keeps_its_weights_whatever_becomes_of_the_files(own: Backbone) -> None:
    trunk, pooler = trunk_of(own), own.pooler
    assert pooler is not None
    before = trunk.checksum(), fingerprint(dict(zip("wb", pooler, strict=True)))
    overwrite(own)
    assert (trunk.checksum(), fingerprint(dict(zip("wb", pooler, strict=True)))) == before


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not list what is mapped")
def test_the_file_is_mapped_no_longer_than_its_weights_are_read(own: Backbone) -> None:
    trunk, file = trunk_of(own), str(own.folder / "model.safetensors")
    assert file not in Path("/proc/self/maps").read_text()
    tensors = own.read_tensors()
    assert file in Path("/proc/self/maps").read_text()
    assert fingerprint(tensors) == own.fingerprint
    assert trunk.dtype == torch.float32


def test_weights_that_changed_after_the_load_are_refused(own: Backbone) -> None:
    overwrite(own)
    with pytest.raises(BackboneError, match="have changed since the backbone was loaded; load it again"):
        own.read_tensors()


def test_a_backbone_of_a_relative_path_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_backbone(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    backbone = Backbone.load("tiny", device="cpu", dtype="fp32")
    monkeypatch.chdir("/")
    assert fingerprint(backbone.read_tensors()) == backbone.fingerprint
    shutil.rmtree(tmp_path / "tiny")
    with pytest.raises(BackboneError, match="is missing"):
        backbone.read_tensors()
