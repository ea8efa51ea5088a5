from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.core.tasks.iob2 import best_iob2, is_valid
from onetrunk.core.tasks.metrics import log_softmax

LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def score(tags: tuple[str, ...] | list[str], logits: np.ndarray) -> float:
    return float(sum(row[LABELS.index(tag)] for tag, row in zip(tags, log_softmax(logits), strict=True)))


@given(st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_no_valid_sequence_is_more_probable(words: int, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(words, len(LABELS))) * 3
    found = best_iob2(logits, LABELS)
    assert len(found) == words
    assert is_valid(found)
    every = (tags for tags in product(LABELS, repeat=words) if is_valid(tags))
    assert score(found, logits) == pytest.approx(max(score(tags, logits) for tags in every))


def test_an_entity_may_begin_where_its_first_tag_alone_would_not_win() -> None:
    logits = np.array(
        [[2.0, 0, 0, 1.9, 0], [0, 0, 0, 0, 4.0]]
    )  # alone: O, then an I-PER that continues nothing
    assert best_iob2(logits, LABELS) == ["B-PER", "I-PER"]


def test_labels_may_lack_the_beginning_of_a_type() -> None:
    assert best_iob2(np.array([[0.0, 9.0], [0.0, 9.0]]), ("O", "I-X")) == ["O", "O"]


@pytest.mark.parametrize(
    ("tags", "valid"),
    [
        ([], True),
        (["O", "B-X", "I-X", "I-X"], True),
        (["I-X"], False),
        (["B-X", "O", "I-X"], False),
        (["B-X", "I-Y"], False),
    ],
)
def test_an_inside_tag_must_continue_its_entity(tags: list[str], valid: bool) -> None:
    assert is_valid(tags) is valid
