"""Fixtures: a store of small trained adapters of three tasks, and a `OneTrunk` that has loaded them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onetrunk.adapters.store.store import Store
from onetrunk.core import OneTrunk
from onetrunk.core.backbones.backbone import Backbone
from tests.core.inference.predictions import TASKS


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, train_tiny: Callable[..., Any], bert: Backbone) -> Store:
    """Adapters of three tasks with different shapes, and three versions of sentiment.

    `prod` is the first version; a test that moves it sets it back.
    """
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


@pytest.fixture
def own_store(store: Store, tmp_path: Path) -> Store:
    """A copy of the store that a test may change."""
    return Store(shutil.copytree(store.root, tmp_path / "store"))
