"""The folder of a store: missing, read-only, locked, and changed by many at once."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs
import pytest
from filelock import FileLock

from onetrunk.adapters.errors import (
    StoreBusy,
    StoreError,
)
from onetrunk.adapters.store.store import Store
from tests.adapters.store.changes import Write, add, refs


def test_a_missing_root_lists_as_empty(store: Store) -> None:
    assert store.versions() == store.versions("ner") == []
    assert not store.root.exists()


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
