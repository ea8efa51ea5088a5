"""`hold_out`: a stratified split into train and dev, the same on every platform."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from onetrunk.core.data.dataset import Dataset, content_sha256
from onetrunk.core.data.splits import hold_out
from onetrunk.core.data.text_forms import text_key
from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.tasks import Example
from tests.core.data.sample_tasks import dataset_of

TARGETS = (
    st.none() | st.sampled_from("abcde") | st.lists(st.sampled_from(["O", "B-x", "I-x", "B-y"]), max_size=4)
)


def labels_in(dataset: Dataset) -> set[str]:
    return {label for example in dataset.examples for label in example.target or ()}


@given(
    targets=st.lists(TARGETS, min_size=2, max_size=60), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 9)
)
@settings(deadline=None)
def test_hold_out_partitions_and_train_keeps_every_label(
    targets: list[Any], fraction: float, seed: int
) -> None:
    dataset = dataset_of(targets)
    try:
        train, dev = hold_out(dataset, fraction, seed)
    except DataError:
        assume(False)
    assert sorted((*train.examples, *dev.examples), key=dataset.examples.index) == list(dataset.examples)
    assert train.examples
    assert dev.examples
    assert labels_in(dev) <= labels_in(train)


@given(targets=st.lists(st.sampled_from("abc"), min_size=2, max_size=80), fraction=st.floats(0.01, 0.99))
@settings(deadline=None)
def test_every_label_is_held_out_in_proportion_and_keeps_a_row_in_train(
    targets: list[str], fraction: float
) -> None:
    rows = Counter(targets)
    assume(max(rows.values()) > 1)
    train, dev = hold_out(dataset_of(targets), fraction)
    held = Counter(example.target for example in dev.examples)
    assert {example.target for example in train.examples} == set(targets)
    for label, size in rows.items():
        assert min(int(fraction * size), size - 1) <= held[label] <= int(fraction * size) + 1


def test_a_tenth_is_held_out() -> None:
    train, dev = hold_out(dataset_of(["a"] * 70 + ["b"] * 30))
    assert len(train.examples) == 90
    assert Counter(example.target for example in dev.examples) == {"a": 7, "b": 3}


def test_many_small_strata_still_give_the_total() -> None:
    _, dev = hold_out(dataset_of([f"label {row % 77}" for row in range(231)]))
    assert len(dev.examples) == 23


def test_sentences_with_rare_sets_of_labels_are_held_out_too() -> None:
    targets = [["O", *{f"B-{row % 7}", f"B-{row % 11}", f"B-{row % 13}"}] for row in range(200)]
    _, dev = hold_out(dataset_of(targets))
    assert len(dev.examples) == 20


def test_the_draw_is_the_same_on_every_platform() -> None:
    _, dev = hold_out(dataset_of(list("aabbbccccc") * 3), 0.2, seed=7)
    assert [example.text for example in dev.examples] == [f"text {row}" for row in (4, 7, 8, 12, 20, 26)]


def test_another_seed_draws_other_rows() -> None:
    dataset = dataset_of(["a"] * 100)
    assert hold_out(dataset, seed=1)[1].examples != hold_out(dataset, seed=2)[1].examples


def test_the_source_of_both_parts_says_what_was_held_out() -> None:
    train, dev = hold_out(dataset_of(["a"] * 10), seed=3)
    assert train.source == "f (without the 10 % held out, seed 3)"
    assert dev.source == "f (the 10 % held out, seed 3)"


def test_both_parts_have_their_own_hash() -> None:
    train, dev = hold_out(dataset_of(["a"] * 10))
    assert (train.sha256, dev.sha256) == (content_sha256(train.examples), content_sha256(dev.examples))


@pytest.mark.parametrize("targets", [["a"], ["a", "b", "c"], [None]])
def test_too_few_rows_to_hold_out_are_refused(targets: list[str | None]) -> None:
    with pytest.raises(
        DataError, match="f: too few rows to hold out a dev split: each label needs at least two"
    ):
        hold_out(dataset_of(targets))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_a_fraction_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(UsageError, match="expected a number between 0 and 1"):
        hold_out(dataset_of(["a"] * 10), fraction)


def rows_of(rows: list[tuple[str, str]]) -> Dataset:
    examples = tuple(Example(text, label) for text, label in rows)
    return Dataset(examples, "f", content_sha256(examples))


@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["x", " x", "y", "caf\u00e9", "cafe\u0301", *"abcdefgh"]), st.sampled_from("pq")
        ),
        min_size=4,
        max_size=60,
    ),
    seed=st.integers(0, 9),
)
@settings(deadline=None)
def test_copies_of_a_text_stay_on_one_side(rows: list[tuple[str, str]], seed: int) -> None:
    try:
        train, dev = hold_out(rows_of(rows), 0.2, seed)
    except DataError:
        assume(False)
    sides = [{text_key(example.text) for example in part.examples} for part in (train, dev)]
    assert sides[0] & sides[1] == set()
    assert {label for _, label in rows} == {example.target for example in train.examples}


def test_a_few_copies_leave_most_of_the_sample_as_it_was() -> None:
    rows = [(f"text {row}", "ab"[row % 2]) for row in range(200)]
    copied = [*rows[:50], rows[0], *rows[51:]]
    before, after = (
        {example.text for example in hold_out(rows_of(each))[1].examples} for each in (rows, copied)
    )
    assert len(before & after) >= 18


def test_a_text_with_more_copies_than_the_sample_has_rows_stays_in_train() -> None:
    rows = [("ok", "a")] * 60 + [(f"text {row}", "ab"[row % 2]) for row in range(40)]
    for seed in range(20):
        _, dev = hold_out(rows_of(rows), seed=seed)
        assert "ok" not in {example.text for example in dev.examples}


def test_if_every_text_has_many_copies_whole_groups_are_held_out() -> None:
    rows = [(f"text {row % 6}", "ab"[row % 2]) for row in range(60)]
    _, dev = hold_out(rows_of(rows))
    assert len(dev.examples) == 10
