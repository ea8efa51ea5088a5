"""Notes on rows and splits that make a result doubtful: each with its count and its first place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from onetrunk.core.data.checks import check_rows, check_splits
from onetrunk.core.data.dataset import Dataset, content_sha256
from onetrunk.core.data.notes import Note
from onetrunk.core.tasks import Example, Level

Row = tuple[str, Any]


def dataset(rows: Sequence[Row], name: str = "train") -> Dataset:
    examples = tuple(
        Example(text, label, where=f"{name}:{line}") for line, (text, label) in enumerate(rows, 1)
    )
    return Dataset(examples, name, content_sha256(examples))


def rows_notes(rows: Sequence[Row], level: Level = "text") -> dict[str, Note]:
    return {note.kind: note for note in check_rows(dataset(rows), level)}


def split_notes(level: Level = "text", **splits: Sequence[Row]) -> dict[str, Note]:
    given = {name: dataset(rows, name) for name, rows in splits.items()}
    return {note.kind: note for note in check_splits(given, level)}


def many(label: str, count: int) -> list[Row]:
    return [(f"{ord(label[0])} {row}", label) for row in range(count)]


def test_sound_rows_get_no_note() -> None:
    assert rows_notes([*many("a", 30), *many("b", 30)]) == {}
    assert split_notes(train=[*many("a", 30), *many("b", 30)], dev=[("x", "a"), ("y", "b")]) == {}


@pytest.mark.parametrize("copy", ["cancel it", "cancel  it\u00a0", "cancel\tit\n"])
def test_the_same_text_with_two_labels(copy: str) -> None:
    note = rows_notes([("cancel it", "stop"), ("go", "start"), (copy, "start"), (copy, "start")])[
        "same-text-two-labels"
    ]
    assert (note.count, note.where, note.source) == (1, "train:3", "train")
    assert note.message.startswith("1 text has more than one label, such as 'cancel it' (stop and start)")


def test_the_same_words_with_two_sets_of_tags() -> None:
    rows = [("Ada ran", ("B-PER", "O")), ("Ada ran", ("O", "O")), ("Bo ran", ("B-PER", "O"))]
    note = rows_notes(rows, "token")["same-text-two-labels"]
    assert (note.count, note.where) == (1, "train:2")


def test_a_text_in_two_unicode_forms_is_one_text() -> None:
    note = rows_notes([("caf\u00e9", "a"), ("cafe\u0301", "b")])["same-text-two-labels"]
    assert note.where == "train:2"


def test_rows_without_a_label_contradict_nothing() -> None:
    assert rows_notes([("a", None), ("a", "x")]) == {}


def test_exact_copies_are_counted() -> None:
    note = rows_notes([("a", "x"), ("b", "y"), ("a", "x"), ("a ", "x")])["duplicate-rows"]
    assert (note.count, note.where) == (2, "train:3")
    assert note.message == "2 rows are copies of an earlier row with the same text and label"


def test_empty_texts_are_counted_once() -> None:
    notes = rows_notes([("", "x"), (" \u3000", "y"), ("a", "x")])
    assert list(notes) == ["empty-texts"]
    assert (notes["empty-texts"].count, notes["empty-texts"].where) == (2, "train:1")


def test_texts_that_contain_their_own_label() -> None:
    note = rows_notes([(f"[Cancel] order {row}", "cancel") for row in range(20)])["label-in-text"]
    assert (note.count, note.where) == (20, "train:1")
    assert note.message.startswith("20 of 20 texts contain their own label; remove the labels")


def test_some_texts_may_contain_their_label() -> None:
    assert rows_notes([*[(f"cancel {row}", "cancel") for row in range(20)], *many("go", 20)]) == {}


def test_dev_rows_that_are_in_train() -> None:
    note = split_notes(
        train=[*many("a", 9), ("same  text", "b"), ("other", "b")],
        dev=[("new", "a"), ("same text", "b"), ("other", "a")],
    )["leak"]
    assert (note.source, note.count, note.where) == ("dev", 2, "dev:2")
    assert note.message.startswith("2 of 3 rows have a text that is also in train, 1 with another label;")


def test_test_rows_that_are_in_dev() -> None:
    note = split_notes(train=many("a", 9), dev=[("x", "a")], test=[("y", "a"), ("x", "a")])["leak"]
    assert (note.source, note.where) == ("test", "test:2")
    assert "is also in dev" in note.message
    assert "used to choose the best epoch" in note.message


def test_the_same_file_twice_is_one_note() -> None:
    given = {name: dataset(many("a", 9), name) for name in ("train", "dev")}
    (note,) = [note for note in check_splits(given, "text") if note.kind == "leak"]
    assert note.message.startswith("dev and train are the same data; ")
    assert note.count == 9


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Refund", "refund"),
        ("card lost", "card\u00a0lost"),
        ("card lost", "card  lost"),
        ("card_lost", "card-lost"),
        ("card_lost", "cardlost"),
        ("file", "\ufb01le"),
        ("Straße", "STRASSE"),
        ("yes", "yes\u200b"),
        ("COVID-19", "covid 19"),
        ("1", "one"),
        ("1", "01"),
    ],
)
def test_labels_that_look_alike(one: str, other: str) -> None:
    note = split_notes(train=[*many(one, 3), *many("far", 3)], test=[("x", other)])["look-alike-labels"]
    assert (note.count, note.where) == (2, "test:1")
    assert f"{one!r} (3), {other!r} (1)" in note.message


@pytest.mark.parametrize(
    ("one", "other"),
    [("-1", "1"), ("1-2", "12"), ("C", "C++"), ("+1", "1"), ("a", "b"), ("1.5", "15"), ("1", "10")],
)
def test_labels_that_differ_do_not_look_alike(one: str, other: str) -> None:
    assert "look-alike-labels" not in split_notes(train=[*many(one, 3), *many(other, 3)])


def test_entity_types_that_look_alike() -> None:
    rows = [("Ada", ("B-PER",)), ("Bo", ("B-per",)), ("Cy", ("B-PER",))]
    note = split_notes("token", train=rows)["look-alike-labels"]
    assert (note.where, "'PER' (2), 'per' (1)" in note.message) == ("train:2", True)


def test_a_message_lists_at_most_twenty_labels() -> None:
    note = split_notes(train=[(f"text {row}", f"label {row}") for row in range(3000)])["rare-labels"]
    assert note.count == 3000
    assert note.message.split(";")[0].count(", label ") == 19
    assert "and 2980 more" in note.message


def test_many_groups_of_labels_that_look_alike_are_counted() -> None:
    labels = [each for row in range(40) for each in (f"label{row}", f"Label{row}")]
    note = split_notes(train=[(f"text {label}", label) for label in labels])["look-alike-labels"]
    assert note.message.startswith("40 groups of labels look alike")
    assert "and 35 more" in note.message


def test_labels_with_a_single_row() -> None:
    note = split_notes(train=[*many("a", 5), *many("b", 1)])["rare-labels"]
    assert (note.count, note.where) == (1, "train:6")
    assert note.message.startswith("1 label with a single row: b;")


def test_a_label_with_fifty_times_the_rows_of_another() -> None:
    note = split_notes(train=[*many("a", 100), *many("b", 2)])["imbalance"]
    assert note.message.startswith("a has 100 rows, b has 2;")
    assert "--class-weights balanced" in note.message
    assert "imbalance" not in split_notes(train=[*many("a", 99), *many("b", 2)])


def test_labels_of_train_that_dev_lacks() -> None:
    note = split_notes(train=[*many("a", 9), *many("b", 9)], dev=[("x", "a")])["unmeasured-labels"]
    assert (note.source, note.count) == ("dev", 1)
    assert note.message.startswith("has no rows of 1 of the 2 labels of train: b;")


def test_dev_with_other_shares_of_labels_than_train() -> None:
    dev = [(f"dev {row}", "a" if row < 5 else "b") for row in range(50)]
    note = split_notes(train=[*many("a", 50), *many("b", 50)], dev=dev)["unbalanced-dev"]
    assert note.message.endswith("a has 50% of train, 10% of dev")


def test_a_test_split_larger_than_train() -> None:
    test = [(f"test {row}", "a") for row in range(21)]
    note = split_notes(train=many("a", 10), test=test)["small-train"]
    assert (note.source, note.count) == ("test", 21)
    assert "check that the files are not swapped" in note.message
