"""The store: versions, aliases, removal, and what it does with a root that is not as it should be."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs
import pytest
from filelock import FileLock

from onetrunk.adapters.errors import (
    ArtifactError,
    HashMismatch,
    ReferenceSyntaxError,
    StoreBusy,
    StoreError,
    UnknownAdapter,
)
from onetrunk.adapters.format.artifact import read_artifact
from onetrunk.adapters.store.references import Reference
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.adapters.store.version_index import Origin

Write = Callable[[Path], object]


def refs(versions: list[StoredVersion]) -> list[str]:
    return [each.ref for each in versions]


def staged(store: Store) -> list[Path]:
    return list((store.root / ".staging").iterdir())


def add(store: Store, copy_sample: Write, *names: str) -> None:
    for name in names:
        store.add(name, copy_sample)


def test_versions_count_up_from_one(store: Store, copy_sample: Write) -> None:
    stored = [store.add("ner", copy_sample) for _ in range(3)]
    assert refs(stored) == ["ner@1", "ner@2", "ner@3"]
    assert stored[2].path == store.root / "ner" / "3"


def test_a_stored_version_is_the_artifact_that_was_written(
    store: Store, copy_sample: Write, sample: Path
) -> None:
    stored = store.add("ner", copy_sample)
    assert read_artifact(stored.path).manifest == read_artifact(sample).manifest


def test_versions_are_sorted_by_name_and_number(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "b", *["a"] * 11)
    assert refs(store.versions()) == [*(f"a@{n}" for n in range(1, 12)), "b@1"]
    assert refs(store.versions("b")) == ["b@1"]
    assert store.versions("c") == []


def test_nothing_is_left_in_the_staging_folder(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner")
    store.remove("ner@1")
    assert staged(store) == []


def test_a_write_that_raises_leaves_nothing(store: Store) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "task.json").write_text("{")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add("ner", interrupted)
    assert (store.versions(), staged(store)) == ([], [])


def test_the_errors_of_write_come_through_as_they_are(store: Store) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        store.add("ner", lambda folder: shutil.copy("elsewhere", folder))


def test_an_unsound_artifact_is_not_stored(store: Store, copy_sample: Write) -> None:
    def spoilt(folder: Path) -> None:
        copy_sample(folder)
        (folder / "README.md").write_text("# CARD\n")

    with pytest.raises(HashMismatch, match=r"README.md has sha256"):
        store.add("ner", spoilt)
    with pytest.raises(ArtifactError, match="is missing"):
        store.add("ner", lambda _: None)
    assert (store.versions(), staged(store)) == ([], [])


def test_a_read_only_file_is_stored_too(store: Store, copy_sample: Write) -> None:
    def read_only(folder: Path) -> None:
        copy_sample(folder)
        for path in folder.iterdir():
            path.chmod(0o444)

    assert store.add("ner", read_only).ref == "ner@1"


@pytest.mark.parametrize("name", ["../ner", ".staging", "NER", "", "ner@1"])
def test_a_name_that_is_none_is_refused_before_anything_is_made(
    store: Store, copy_sample: Write, name: str
) -> None:
    with pytest.raises(ReferenceSyntaxError, match="is not a reference"):
        store.add(name, copy_sample)
    assert not store.root.exists()


def test_a_reference_means_a_version_an_alias_or_the_newest(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner", "ner", "ner")
    store.alias("ner", "prod", 1)
    found = [
        store.resolve(ref).version for ref in ("ner", "ner@2", "ner@prod", "ner@latest", Reference("ner"))
    ]
    assert found == [3, 2, 1, 3, 3]


def test_an_alias_moves_to_another_version(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner", "ner")
    assert store.alias("ner", "prod", 1).aliases == ("prod",)
    store.alias("ner", "beta", 2)
    assert store.alias("ner", "prod", 2).aliases == ("beta", "prod")
    assert [each.aliases for each in store.versions("ner")] == [(), ("beta", "prod")]


def test_an_alias_is_taken_away(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner")
    store.alias("ner", "prod", 1)
    assert store.unalias("ner", "prod") == store.resolve("ner@1")
    with pytest.raises(UnknownAdapter, match="no adapter 'ner@prod'"):
        store.unalias("ner", "prod")


def test_an_alias_needs_a_version_that_exists(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner")
    with pytest.raises(UnknownAdapter, match=r"no adapter 'ner@2' in the store .*; known: ner@1"):
        store.alias("ner", "prod", 2)


@pytest.mark.parametrize("alias", ["latest", "7"])
def test_a_reserved_alias_is_refused(store: Store, copy_sample: Write, alias: str) -> None:
    add(store, copy_sample, "ner")
    with pytest.raises(ReferenceSyntaxError, match="version"):
        store.alias("ner", alias, 1)


@pytest.mark.parametrize(
    ("ref", "known"),
    [
        ("ner@9", ("ner@1", "ner@2", "ner@prod")),
        ("ner@beta", ("ner@1", "ner@2", "ner@prod")),
        ("nre", ("ner",)),
        ("something", ("intent", "ner")),
    ],
)
def test_an_unknown_adapter_is_told_what_is_near(
    store: Store, copy_sample: Write, ref: str, known: tuple[str, ...]
) -> None:
    add(store, copy_sample, "ner", "ner", "intent")
    store.alias("ner", "prod", 1)
    with pytest.raises(UnknownAdapter, match=f"no adapter '{ref}' in the store") as caught:
        store.resolve(ref)
    assert caught.value.known == known


def test_a_removed_version_is_gone_and_its_number_never_comes_back(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner", "ner")
    assert refs(store.remove("ner@2")) == ["ner@2"]
    assert not (store.root / "ner" / "2").exists()
    assert refs(store.versions()) == ["ner@1"]
    assert store.add("ner", copy_sample).ref == "ner@3"


def test_a_number_never_comes_back_after_the_whole_adapter_was_removed(
    store: Store, copy_sample: Write
) -> None:
    add(store, copy_sample, "ner", "ner")
    assert refs(store.remove("ner", whole=True)) == ["ner@1", "ner@2"]
    assert store.versions() == []
    assert store.add("ner", copy_sample).ref == "ner@3"


def test_a_version_with_an_alias_is_removed_only_by_force_and_its_alias_with_it(
    store: Store, copy_sample: Write
) -> None:
    add(store, copy_sample, "ner", "ner")
    store.alias("ner", "prod", 1)
    for ref, whole in (("ner@1", False), ("ner@prod", False), ("ner", True)):
        with pytest.raises(StoreError, match=r"ner@1 \(prod\) has an alias: take it away first"):
            store.remove(ref, whole=whole)
    assert refs(store.remove("ner@prod", force=True)) == ["ner@1"]
    with pytest.raises(UnknownAdapter, match="no adapter 'ner@prod'"):
        store.resolve("ner@prod")


def test_a_bare_name_is_not_removed_by_accident(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner")
    with pytest.raises(StoreError, match="ner names no version: name one, as in ner@1"):
        store.remove("ner", force=True)
    with pytest.raises(StoreError, match="ner@1 names one version: give ner to remove the whole adapter"):
        store.remove("ner@1", whole=True)


def test_what_is_not_there_cannot_be_removed_and_makes_no_store(store: Store) -> None:
    for ref, whole in (("ner", False), ("ner", True), ("ner@1", False)):
        with pytest.raises(UnknownAdapter, match="it is empty; `adapters train` fills it"):
            store.remove(ref, whole=whole)
    with pytest.raises(UnknownAdapter, match="it is empty"):
        store.alias("ner", "prod", 1)
    assert not store.root.exists()


def test_a_missing_root_lists_as_empty(store: Store) -> None:
    assert store.versions() == store.versions("ner") == []
    assert not store.root.exists()


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


@pytest.mark.parametrize(("schema", "later"), [(1, ("ids", "origins")), (2, ("origins",)), (3, ())])
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
    with pytest.raises(StoreError, match=f"adapter.json .*{why}.*; delete it to have the versions") as caught:
        store.versions()
    assert str(index) in str(caught.value)
    with pytest.raises(StoreError, match=r"adapter\.json"):
        store.add("ner", copy_sample)


def test_an_index_with_a_newer_schema_asks_for_an_upgrade(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner")
    (store.root / "ner" / "adapter.json").write_text('{"schema": 5, "all": "different"}')
    with pytest.raises(StoreError, match=r"has schema 5, this version reads schema 4; upgrade onetrunk$"):
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


def test_a_root_that_is_a_file_is_told(tmp_path: Path, copy_sample: Write) -> None:
    (tmp_path / "file").touch()
    store = Store(tmp_path / "file")
    with pytest.raises(StoreError, match=r"cannot read the store .*; name another folder in ONETRUNK_HOME"):
        store.versions()
    with pytest.raises(StoreError, match="cannot write to the store"):
        store.add("ner", copy_sample)


def test_whether_a_version_can_be_added_is_told_and_nothing_is_written(
    tmp_path: Path, store: Store, copy_sample: Write
) -> None:
    Store(tmp_path / "new" / "store").check_writable("ner")
    assert not (tmp_path / "new").exists()
    add(store, copy_sample, "ner")
    store.check_writable("ner")
    (store.root / "ner" / "adapter.json").write_text("{")
    with pytest.raises(StoreError, match="not JSON"):
        store.check_writable("ner")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write to the store .*Not a directory"):
        Store(tmp_path / "file").check_writable("ner")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_root_is_told_before_it_is_written(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner")
    store.root.chmod(0o500)
    try:
        with pytest.raises(StoreError, match=r"cannot write to the store .*Permission denied"):
            store.check_writable("other")
    finally:
        store.root.chmod(0o700)


def test_a_damaged_index_does_not_hide_what_is_near_another_name(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner", "mood")
    (store.root / "mood" / "adapter.json").write_text("{")
    with pytest.raises(UnknownAdapter, match="known: ner"):
        store.resolve("nerr")


def test_a_root_that_cannot_be_made_lists_as_empty_and_is_told_when_written(copy_sample: Write) -> None:
    store = Store(Path("/proc/self/onetrunk"))  # not writable, not even for root
    assert store.versions() == []
    with pytest.raises(StoreError, match=r"cannot write to the store .*/onetrunk .*ONETRUNK_HOME"):
        store.add("ner", copy_sample)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_root_is_read_and_told_when_written(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner")
    store.root.chmod(0o555)
    try:
        assert refs(store.versions()) == ["ner@1"]
        with pytest.raises(StoreError, match="cannot write to the store"):
            store.add("other", copy_sample)
    finally:
        store.root.chmod(0o755)


def test_a_lock_held_by_another_for_too_long_is_told(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner")
    waiting = Store(store.root, lock_seconds=0.1)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with FileLock(store.root / ".lock"):
            held.set()
            done.wait()

    with ThreadPoolExecutor() as pool:
        pool.submit(hold)
        held.wait()
        try:
            with pytest.raises(StoreBusy, match=r"is locked by another process for over 0.1 s; try again"):
                waiting.add("ner", copy_sample)
            assert refs(waiting.versions()) == ["ner@1"]  # readers do not wait
        finally:
            done.set()


def test_a_long_write_holds_nobody_up_and_its_stage_is_left_alone(store: Store, copy_sample: Write) -> None:
    def slow(folder: Path) -> None:
        copy_sample(folder)
        store.add("ner", copy_sample)  # another add, while this one is under way
        assert len(list(folder.iterdir())) == len(list(store.resolve("ner").path.iterdir()))

    assert store.add("ner", slow).ref == "ner@2"


def test_threads_adding_at_once_get_different_versions(store: Store, copy_sample: Write) -> None:
    with ThreadPoolExecutor(4) as pool:
        stored = list(pool.map(lambda _: store.add("ner", copy_sample), range(12)))
    assert sorted(each.version for each in stored) == list(range(1, 13))
    assert refs(store.versions()) == [f"ner@{n}" for n in range(1, 13)]


def test_the_default_root_is_the_environments_else_the_platforms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONETRUNK_HOME", str(tmp_path / "home"))
    assert Store().root == tmp_path / "home"
    monkeypatch.setenv("ONETRUNK_HOME", "")
    assert Store().root == platformdirs.user_data_path("onetrunk", appauthor=False)


def test_a_root_is_kept_when_the_working_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(Path("here"))
    monkeypatch.chdir("/")
    assert store.root == tmp_path / "here"
