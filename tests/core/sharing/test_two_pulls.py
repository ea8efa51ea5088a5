"""Two pulls at once: the second begins, and ends, while the first has downloaded a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from onetrunk.adapters.errors import NameTaken
from onetrunk.adapters.remotes import open_remote
from onetrunk.adapters.remotes.locations import Location
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.sharing.pull import Puller
from onetrunk.core.sharing.push import PushOptions, check_push, publish

HOST = PluginHost.discover()
Publish = Callable[[str], Location]


@pytest.fixture(scope="module")
def trained(
    bert: Backbone, train_tiny: Callable[..., object], tmp_path_factory: pytest.TempPathFactory
) -> StoredVersion:
    store = Store(tmp_path_factory.mktemp("trained"))
    train_tiny(store, "sentiment", bert, name="mood")
    return store.resolve("mood")


@pytest.fixture
def shared(trained: StoredVersion, tmp_path: Path) -> Publish:
    """Return (name) → a new shared folder that holds the adapter."""

    def call(name: str) -> Location:
        location = Location.parse((tmp_path / name / "mood").as_uri())
        remote, options, aside = open_remote(location), PushOptions(), tmp_path / f"{name}-aside"
        aside.mkdir()
        remote.create(private=False)
        push = check_push(trained, HOST.task("sentiment"), remote, options)
        publish(push, remote, aside, options)
        return location

    return call


def puller(store: Store, bert: Backbone, during: Callable[[], object] | None = None) -> Puller:
    """Return what pulls into `store`, and calls `during` once, after the first file has come."""
    left = [during] if during is not None else []

    def advance(_: int) -> None:
        if left:
            left.pop()()

    return Puller(store, HOST, lambda _: bert, advance=advance)


def test_of_two_places_one_has_the_name(shared: Publish, bert: Backbone, tmp_path: Path) -> None:
    first, second, store = shared("a"), shared("b"), Store(tmp_path / "store")
    inner = puller(store, bert)
    with pytest.raises(NameTaken, match=f"mood@1 comes from {second}; {first} was not stored"):
        puller(store, bert, lambda: inner.pull(second)).pull(first)
    assert [own.ref for own in store.versions()] == ["mood@1"]


def test_the_same_commit_is_stored_once(shared: Publish, bert: Backbone, tmp_path: Path) -> None:
    location, store = shared("a"), Store(tmp_path / "store")
    inner = puller(store, bert)
    outer = puller(store, bert, lambda: inner.pull(location)).pull(location)
    assert (outer.new, [own.ref for own in store.versions()]) == (False, ["mood@1"])


def test_the_same_location_is_cached_once(shared: Publish, bert: Backbone, tmp_path: Path) -> None:
    location, store = str(shared("a")), Store(tmp_path / "store")
    inner = puller(store, bert)
    outer = puller(store, bert, lambda: inner.resolve(location)).resolve(location)
    assert [own.ref for own in store.versions()] == [outer.ref]
