"""A small sound artifact, to be copied, changed and stored."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from onetrunk.adapters.format.artifact import ArtifactContent, write_artifact
from onetrunk.adapters.format.manifest import (
    SCHEMA,
    BackboneRecord,
    DataRecord,
    FileRecord,
    Manifest,
    Parameters,
    PluginRecord,
    Probe,
)
from onetrunk.adapters.store.store import Store


@pytest.fixture(scope="session")
def manifest() -> Manifest:
    """A manifest with every field in use; its files are not those of any folder."""
    return Manifest(
        onetrunk="0.1.0",
        task="sentiment",
        plugin=PluginRecord(distribution="onetrunk", version="0.1.0"),
        level="text",
        labels=("negative", "positive", "œuvre 🙂"),
        pooling="cls",
        head="peft",
        method="lora",
        recipe="cls",
        settings={"threshold": 0.5, "deep": {"er": [1, None, True]}},
        backbone=BackboneRecord(
            name="acme/tiny",
            revision=None,
            fingerprint="f" * 64,
            tokenizer="t" * 64,
            style="bert",
            hidden_size=8,
            layers=2,
        ),
        data={"train": DataRecord(sha256="a" * 64, rows=7, source="train.jsonl")},
        metrics={"dev": {"accuracy": 1, "confusion": [[1, 0], [0, 1]]}},
        training={"lr": 1e-3, "seed": 0},
        parent="sentiment@2",
        parameters=Parameters(trained=96, backbone=10_000),
        probe=Probe(texts=("good", ""), logits=([0.5, -1.25, 0.0], [0.0, 0.1, 3.0])),
        created="2026-01-31T12:00:00+00:00",
        files={"README.md": FileRecord(sha256="b" * 64, bytes=3)},
        schema=SCHEMA,
    )


@pytest.fixture(scope="session")
def sample(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound artifact that no test may change."""
    folder = tmp_path_factory.mktemp("sample")
    generator = torch.Generator().manual_seed(0)
    model = {"lora_A.weight": torch.randn(4, 8, generator=generator), "lora_B.weight": torch.zeros(8, 4)}
    config = {"peft_type": "LORA", "r": 4}
    history = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    content = ArtifactContent(config, model, card="# Card\n", history=history)
    write_artifact(folder, manifest, content)
    return folder


@pytest.fixture
def folder(sample: Path, tmp_path: Path) -> Path:
    """A sound artifact to spoil."""
    return Path(shutil.copytree(sample, tmp_path / "artifact"))


@pytest.fixture
def copy_sample(sample: Path) -> Callable[[Path], object]:
    """What fills an empty folder with a sound artifact."""
    return lambda target: shutil.copytree(sample, target, dirs_exist_ok=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store whose root does not exist yet."""
    return Store(tmp_path / "store", lock_seconds=10)
