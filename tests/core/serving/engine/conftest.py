"""Fixtures: a store of small trained adapters of three tasks, and an engine that serves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from onetrunk.adapters.store.store import Store
from onetrunk.core import OneTrunk
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.serving.engine.engine import Engine
from tests.core.serving.engine.scenarios import TASKS


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, train_tiny: Callable[..., Any], bert: Backbone) -> Store:
    """Adapters of three tasks, and a second version of sentiment."""
    store = Store(tmp_path_factory.mktemp("store"))
    for task in (*TASKS, "sentiment"):
        train_tiny(store, task, bert, lr=0.05, seed=len(store.names()))
    return store


@pytest.fixture
def trunk(bert: Backbone, store: Store) -> OneTrunk:
    trunk = OneTrunk(bert, store=store)
    for task in TASKS:
        trunk.load(task)
    return trunk


@pytest.fixture
def engine(trunk: OneTrunk) -> Iterator[Engine]:
    engine = Engine(trunk)
    yield engine
    engine.close()
