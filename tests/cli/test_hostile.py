"""Hostile artifacts on the Hub and in shared folders: refused in words, and the store is as it was."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from onetrunk.adapters.store import Store
from tests.hostile import CASES, MODEL, TASK, Case, Files, config, sealed, task
from tests.hub_child import Child
from tests.hub_server import HubServer
from tests.hub_world import REPO, World, done, refused, rubbish

EVERY = [
    pytest.param(case, id=f"{kind}-{case}".replace(" ", "_")) for kind, cases in CASES.items() for case in cases
]


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def child(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    process = Child(hub, tmp_path_factory.mktemp("cache"))
    yield process
    process.close()


@pytest.fixture(scope="module")
def world(
    hub: HubServer, child: Child, tmp_path_factory: pytest.TempPathFactory, stock: Path, backbone: Path
) -> World:
    """One for all tests: what is hostile leaves no trace."""
    return World(hub, child, tmp_path_factory.mktemp("world"), stock, backbone)


@pytest.fixture(scope="module")
def sound(world: World) -> Files:
    """The files of an adapter that can be pulled."""
    done(world.push())
    done(world.pull())
    done(world.run("remove", "mood", "--all", "--yes", home=world.bob))
    files = world.hub.repo(REPO).files()
    return {name: data for name, data in files.items() if not name.startswith(".")}


def published(world: World, files: Files) -> str:
    """Return a new repo with these files."""
    repo = f"ada/case-{len(world.hub.repos)}"
    world.hub.create_repo(repo).commit(files)
    return repo


@pytest.mark.parametrize("case", EVERY)
def test_a_hostile_artifact_is_refused_in_words(world: World, sound: Files, case: Case, tmp_path: Path) -> None:
    files = dict(sound)
    case.edit(files)
    world.bob = tmp_path
    repo = published(world, sealed(files) if case.sealed else files)
    refused(world.pull(repo), case.reason)
    assert Store(world.bob).versions() == []
    assert rubbish(world.bob) == []


def test_there_are_at_least_sixty_of_them() -> None:
    assert len(EVERY) >= 60


def test_no_pickle_was_ever_opened() -> None:
    assert not Path("/tmp/onetrunk-was-here").exists()
