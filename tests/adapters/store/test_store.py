"""Versions, aliases, removal and references."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from onetrunk.adapters.errors import (
    ArtifactError,
    HashMismatch,
    ReferenceSyntaxError,
    StoreError,
    UnknownAdapter,
)
from onetrunk.adapters.format.artifact import read_artifact
from onetrunk.adapters.store.references import Reference
from onetrunk.adapters.store.store import Store
from tests.adapters.store.changes import Write, add, refs, staged


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
        with pytest.raises(StoreError, match=r"ner@1 \(prod\) has an alias: delete the alias first"):
            store.remove(ref, whole=whole)
    assert refs(store.remove("ner@prod", force=True)) == ["ner@1"]
    with pytest.raises(UnknownAdapter, match="no adapter 'ner@prod'"):
        store.resolve("ner@prod")


def test_a_bare_name_is_not_removed_by_accident(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner")
    with pytest.raises(StoreError, match="ner has no version: give one, as in ner@1"):
        store.remove("ner", force=True)
    with pytest.raises(StoreError, match="ner@1 is one version: give ner to remove the whole adapter"):
        store.remove("ner@1", whole=True)


def test_what_is_not_there_cannot_be_removed_and_makes_no_store(store: Store) -> None:
    for ref, whole in (("ner", False), ("ner", True), ("ner@1", False)):
        with pytest.raises(UnknownAdapter, match="it is empty; `adapters train` fills it"):
            store.remove(ref, whole=whole)
    with pytest.raises(UnknownAdapter, match="it is empty"):
        store.alias("ner", "prod", 1)
    assert not store.root.exists()
