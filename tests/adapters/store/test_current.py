"""The current version of a name: what the name alone means."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onetrunk.adapters.errors import NotPromoted, ReferenceSyntaxError, StoreError, UnknownAdapter
from onetrunk.adapters.store.store import Store
from onetrunk.adapters.store.version_index import VersionIndex
from tests.adapters.store.changes import Write, add


def keep(_: object) -> bool:
    return False


def meaning(store: Store, ref: str = "ner") -> str:
    return store.resolve(ref).ref


def test_a_new_version_becomes_current_by_default(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner", "ner")
    assert (meaning(store), meaning(store, "ner@latest")) == ("ner@2", "ner@2")


def test_a_version_that_is_not_promoted_is_the_newest_but_not_current(
    store: Store, copy_sample: Write
) -> None:
    add(store, copy_sample, "ner")
    stored = store.add("ner", copy_sample, promote=keep)
    assert (stored.ref, stored.is_current) == ("ner@2", False)
    assert (meaning(store), meaning(store, "ner@latest")) == ("ner@1", "ner@2")
    assert [each.is_current for each in store.versions("ner")] == [True, False]


def test_the_rule_is_asked_with_the_current_version(store: Store, copy_sample: Write) -> None:
    asked: list[str | None] = []

    def ask(current: object) -> bool:
        asked.append(getattr(current, "ref", None))
        return len(asked) == 1

    for _ in range(3):
        store.add("ner", copy_sample, promote=ask)
    assert asked == [None, "ner@1", "ner@1"]


def test_promote_moves_the_name_and_says_what_it_meant(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner", "ner")
    now, before = store.promote("ner@1")
    assert (now.ref, now.is_current, before and before.ref) == ("ner@1", True, "ner@2")
    assert meaning(Store(store.root)) == "ner@1"
    with pytest.raises(UnknownAdapter, match="no adapter 'ner@7'"):
        store.promote("ner@7")


def test_a_name_without_a_promoted_version_is_refused_with_what_to_do(
    store: Store, copy_sample: Write
) -> None:
    store.add("ner", copy_sample, promote=keep)
    with pytest.raises(
        NotPromoted, match=r"'ner' has no current version.*run `adapters promote ner@1`; known: ner@1$"
    ):
        store.resolve("ner")
    assert (store.current("ner"), meaning(store, "ner@latest")) == (None, "ner@1")
    store.promote("ner@1")
    assert meaning(store) == "ner@1"


def test_without_its_current_version_a_name_means_the_one_before(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner", "ner", "ner")
    store.promote("ner@1")
    store.remove("ner@1")
    assert meaning(store) == "ner@3"
    shutil.rmtree(store.root / "ner" / "3")  # by hand
    assert meaning(store) == "ner@2"


def test_a_version_that_was_never_promoted_does_not_become_current_by_a_removal(
    store: Store, copy_sample: Write
) -> None:
    add(store, copy_sample, "ner")
    store.add("ner", copy_sample, promote=keep)
    store.remove("ner@1")
    with pytest.raises(NotPromoted, match="'ner' has no current version"):
        store.resolve("ner")


@pytest.mark.parametrize("schema", [1, 2, 3, 4])
def test_in_an_index_without_the_pointer_the_name_means_the_newest(
    store: Store, copy_sample: Write, schema: int
) -> None:
    add(store, copy_sample, "ner", "ner")
    index = store.root / "ner" / "adapter.json"
    old = json.loads(index.read_text())
    del old["promoted"]
    index.write_text(json.dumps({**old, "schema": schema}))
    assert meaning(store) == "ner@2"
    store.add("ner", copy_sample, promote=keep)
    assert meaning(store) == "ner@2"
    assert json.loads(index.read_text())["schema"] == 5


@pytest.mark.parametrize("promoted", ["[7]", "[1, 1]", '"1"', "[0]"])
def test_a_faulty_pointer_is_a_damaged_index(store: Store, copy_sample: Write, promoted: str) -> None:
    add(store, copy_sample, "ner")
    index = store.root / "ner" / "adapter.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "promoted": "?"}).replace('"?"', promoted))
    with pytest.raises(
        StoreError, match=r"adapter\.json is faulty: .*promoted.*the newest one is then the current"
    ):
        store.resolve("ner")


def test_current_is_not_a_new_alias(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner")
    with pytest.raises(ReferenceSyntaxError, match="`adapters promote ner@1` sets it"):
        store.alias("ner", "current", 1)


def test_an_alias_named_current_of_an_older_store_still_works(store: Store, copy_sample: Write) -> None:
    add(store, copy_sample, "ner", "ner")
    index = store.root / "ner" / "adapter.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "aliases": {"current": 1}}))
    assert (meaning(store, "ner@current"), meaning(store)) == ("ner@1", "ner@2")
    assert store.unalias("ner", "current").ref == "ner@1"


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "keep", "promote", "remove"]), st.integers(1, 6)), max_size=12
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_the_current_version_is_one_that_was_promoted_and_is_there(steps: list[tuple[str, int]]) -> None:
    index, history = VersionIndex(), list[int]()
    for step, number in steps:
        if step in ("add", "keep"):
            number = index.last + 1
            index = index.reserve(number).add(number, "a" * 64)
        elif number not in index.versions:
            continue
        if step == "remove":
            index = index.remove([number])
        if step in ("add", "promote"):
            index = index.promote(number)
            history.append(number)
        left = [each for each in history if each in index.versions]
        assert index.current == (left[-1] if left else None)


def test_the_root_is_as_before_if_the_name_is_unknown(tmp_path: Path) -> None:
    store = Store(tmp_path / "none")
    with pytest.raises(UnknownAdapter, match="no adapter 'ner'"):
        store.promote("ner")
    assert not store.root.exists()
