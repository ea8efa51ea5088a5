"""What cannot be stored is refused before training; what the store does not take in the end is kept aside."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from onetrunk.adapters.errors import ArtifactError, StoreError
from onetrunk.adapters.remotes.locations import Location
from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import UsageError
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.sharing.pull import Puller
from onetrunk.core.tasks.hookspecs import StepEvent
from onetrunk.core.training.storage import check_label_count, check_storable
from tests.core.training.test_evaluation import train as train

Train = Callable[..., Any]


def test_a_result_that_is_too_large_for_an_artifact_is_refused_before_the_first_step(train: Train) -> None:
    steps: list[StepEvent] = []
    huge = {"accuracy": 1.0, "rows": ["x" * 1000] * 20_000}
    with pytest.raises(ArtifactError, match=r"would have \d+ bytes, at most 16777216 are allowed"):
        train(steps, "intent", evaluate=lambda *_: huge)
    assert steps == []


def test_more_labels_than_an_adapter_can_have_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"1,000,000 labels .* of size 384 need a head of 1,464 MiB, .* 1,024 MiB"
    ):
        check_label_count(1_000_000, 384, 10)


def test_more_labels_than_the_memory_holds_logits_for_are_refused() -> None:
    with pytest.raises(UsageError, match=r"10,000 labels need about \d.* MiB of memory .* MiB are free"):
        check_label_count(10_000, 384, 10**9)
    check_label_count(150, 384, 5000)


def test_a_full_disk_is_found_before_training(train_tiny: Train, bert: Backbone, tmp_path: Path) -> None:
    artifact = train_tiny(Store(tmp_path), "ner", bert, epochs=1).stored.read()
    from onetrunk.adapters.format.artifact import ArtifactContent

    content = ArtifactContent(artifact.adapter_config, artifact.adapter_model, artifact.head, "card")
    full = Store(Path("/proc/onetrunk"))  # /proc has no free space
    with pytest.raises(
        StoreError, match=r"the adapter needs about 0\.\d MiB in the store .* has 0\.0 MiB free"
    ):
        check_storable(full, "ner", artifact.manifest, content)
    check_storable(Store(tmp_path), "ner", artifact.manifest, content)


def test_a_trained_adapter_that_the_store_does_not_take_is_kept_aside_and_can_be_pulled(
    train_tiny: Train, bert: Backbone, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store", lock_seconds=0.1)
    train_tiny(store, "ner", bert, epochs=1)
    with (
        FileLock(store.root / ".lock"),
        pytest.raises(
            StoreError,
            match=r"the trained adapter is kept in .*; store it with: adapters pull .* --into ner$",
        ) as caught,
    ):
        train_tiny(store, "ner", bert, epochs=1)
    assert "\n" not in str(caught.value)
    command = shlex.split(str(caught.value).partition("store it with: adapters pull ")[2])
    puller = Puller(store, PluginHost.discover(), lambda _: bert)
    pulled = puller.pull(Location.parse(command[0]), command[2], into=True)
    assert pulled.stored.ref == "ner@2"
    assert pulled.stored.read().manifest.metrics["dev"]["f1"] is not None
