"""An adapter that a service loads from a location changes no name of the store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from onetrunk.adapters.store.store import Store
from onetrunk.cli.main import cli
from onetrunk.core import OneTrunk
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.sharing.pull import Puller
from tests.core.serving.conftest import Running, ask, running


@pytest.fixture
def store(stock: Path, tmp_path: Path) -> Store:
    return Store(shutil.copytree(stock, tmp_path / "store"))


@pytest.fixture
def place(store: Store, tmp_path: Path) -> str:
    """A shared folder `mood` that holds mood@1."""
    place = (tmp_path / "shared" / "mood").as_uri()
    done = CliRunner().invoke(cli, ["push", "mood@1", place], env={"ONETRUNK_HOME": str(store.root)})
    assert done.exit_code == 0, done.stderr
    return place


@pytest.fixture
def service(small: Backbone, store: Store) -> Iterator[Running]:
    host = PluginHost.discover()
    resolve = Puller(store, host, lambda _: small).resolve
    with running(OneTrunk(small, store=store, host=host, resolve=resolve)) as service:
        yield service


def test_a_load_from_a_location_changes_no_name(service: Running, store: Store, place: str) -> None:
    before = store.resolve("mood").ref
    loaded = service.client.put("/v1/adapters/x", json={"ref": place})
    assert loaded.status_code == 201, loaded.text
    (stored,) = [each for each in store.versions() if each.is_cached]
    assert (loaded.json()["version"], loaded.json()["ref"]) == (stored.ref, place)
    assert store.resolve("mood").ref == before


def test_a_second_load_from_a_location_stores_nothing_more(
    service: Running, store: Store, place: str
) -> None:
    first, second = (service.client.put(f"/v1/adapters/{name}", json={"ref": place}).json() for name in "xy")
    assert first["version"] == second["version"]
    assert service.predict(ask("good", "x", "y")).status_code == 200
    assert len([each for each in store.versions() if each.is_cached]) == 1
