"""The index of an adapter: what it keeps, and what happens when it is damaged or gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from onetrunk.adapters.errors import (
    ArtifactError,
    StoreError,
    UnknownAdapter,
)
from onetrunk.adapters.format.artifact import read_artifact
from onetrunk.adapters.store.store import Store
from onetrunk.adapters.store.version_index import Origin
from tests.adapters.store.changes import Write, add, refs


def test_foreign_things_in_the_root_are_ignored(store: Store, copy_sample: Write, sample: Path) -> None:
    add(store, copy_sample, "ner")
    (store.root / "notes").mkdir()
    (store.root / "notes" / "1").mkdir()
    (store.root / "UPPER").mkdir()
    (store.root / "file").touch()
    (store.root / ".staging" / "file").touch()
    (store.root / "ner" / "notes.txt").touch()
    shutil.copytree(sample, store.root / "ner" / "2.old")
    assert refs(store.versions()) == ["ner@1"]
    assert store.add("ner", copy_sample).ref == "ner@2"


def test_a_version_folder_that_the_index_does_not_know_is_neither_shown_nor_written_over(
    store: Store, copy_sample: Write, sample: Path
) -> None:
    add(store, copy_sample, "ner")
    shutil.copytree(sample, store.root / "ner" / "7")
    assert refs(store.versions()) == ["ner@1"]
    assert store.add("ner", copy_sample).ref == "ner@8"
    assert (store.root / "ner" / "7").is_dir()


def test_a_version_deleted_by_hand_is_no_longer_shown(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner", "ner")
    store.alias("ner", "prod", 2)
    shutil.rmtree(store.root / "ner" / "2")
    assert refs(store.versions()) == ["ner@1"]
    with pytest.raises(UnknownAdapter, match="no adapter 'ner@prod'"):
        store.resolve("ner@prod")


def test_a_description_that_was_edited_after_storing_is_refused(store: Store, copy_sample: Write) -> None:
    stored = store.add("ner", copy_sample)
    assert stored.read().id == stored.id == store.resolve("ner").id
    task = stored.path / "task.json"
    task.write_text(task.read_text().replace('"labels"', ' "labels"'))  # as sound as before
    assert read_artifact(stored.path).id != stored.id
    with pytest.raises(
        ArtifactError, match=r"1: task\.json was changed after ner@1 had been stored; restore it"
    ):
        store.resolve("ner").read()


@pytest.mark.parametrize(
    ("schema", "later"),
    [
        (1, ("ids", "origins", "promoted")),
        (2, ("origins", "promoted")),
        (3, ("promoted",)),
        (4, ("promoted",)),
    ],
)
def test_an_index_of_an_older_schema_is_read(
    store: Store, copy_sample: Write, schema: int, later: tuple[str, ...]
) -> None:
    add(store, copy_sample, "ner", "ner")
    index = store.root / "ner" / "adapter.json"
    old = {key: value for key, value in json.loads(index.read_text()).items() if key not in later}
    index.write_text(json.dumps({**old, "schema": schema}))
    assert (store.resolve("ner@2").id is None) == ("ids" in later)
    assert store.resolve("ner@2").read().manifest.task == "sentiment"
    assert store.add("ner", copy_sample).ref == "ner@3"


def test_where_a_version_was_pulled_from_is_kept(store: Store, copy_sample: Write) -> None:
    origin = Origin("acme/ner", "c" * 40, "v1")
    store.add("ner", copy_sample, origin)
    store.add("ner", copy_sample)
    assert [own.origin for own in Store(store.root).versions("ner")] == [origin, None]
    assert [own.ref for own in store.pulled_from(origin)] == ["ner@1"]


def test_without_its_index_an_adapter_keeps_its_versions(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner", "ner")
    (store.root / "ner" / "adapter.json").unlink()
    assert refs(store.versions()) == ["ner@1", "ner@2"]
    assert store.add("ner", copy_sample).ref == "ner@3"
    assert refs(store.versions()) == ["ner@1", "ner@2", "ner@3"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"versions": [2, 1]}, "versions must be whole numbers from 1 to last, ascending"),
        ({"versions": [1, 2, 3]}, "versions must be whole numbers from 1 to last"),
        ({"aliases": {"prod": 3}}, "aliases must be aliases of the versions"),
        ({"aliases": {"latest": 1}}, "aliases must be aliases of the versions"),
        ({"aliases": {"prod": [1]}}, "aliases.prod must be a whole number, not this list"),
        ({"last": "2"}, "last must be a whole number"),
        ({"more": 1}, "has the unknown key 'more'"),
    ],
)
def test_a_damaged_index_is_told_with_its_remedy(
    store: Store, copy_sample: Write, change: dict[str, object], why: str
) -> None:
    add(store, copy_sample, "ner", "ner")
    index = store.root / "ner" / "adapter.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), **change}))
    with pytest.raises(
        StoreError, match=f"adapter.json .*{why}.*; delete the file to get the versions"
    ) as caught:
        store.versions()
    assert str(index) in str(caught.value)
    with pytest.raises(StoreError, match=r"adapter\.json"):
        store.add("ner", copy_sample)


def test_an_index_with_a_newer_schema_asks_for_an_upgrade(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner")
    (store.root / "ner" / "adapter.json").write_text('{"schema": 6, "all": "different"}')
    with pytest.raises(StoreError, match=r"has schema 6, this version reads schema 5; upgrade onetrunk$"):
        store.versions()


def test_an_index_that_is_no_json_or_a_link_is_told(store: Store, copy_sample: Write, tmp_path: Path) -> None:
    add(store, copy_sample, "ner")
    index = store.root / "ner" / "adapter.json"
    index.write_bytes(b"\0")
    with pytest.raises(StoreError, match=r"adapter\.json is not JSON"):
        store.resolve("ner")
    index.unlink()
    index.symlink_to(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"adapter\.json is a link"):
        store.resolve("ner")


def test_a_damaged_index_does_not_hide_what_is_near_another_name(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner", "mood")
    (store.root / "mood" / "adapter.json").write_text("{")
    with pytest.raises(UnknownAdapter, match="known: ner"):
        store.resolve("nerr")
