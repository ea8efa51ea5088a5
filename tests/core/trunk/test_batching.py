from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.core.trunk.batching import by_budget, inference_batches, training_batches

TOKENS = st.lists(st.integers(2, 700), min_size=1, max_size=120)
BUDGET = st.integers(16, 512)


def check_sound(batches: list[list[int]], tokens: list[int], budget: int) -> None:
    assert sorted(i for batch in batches for i in batch) == list(range(len(tokens)))
    assert all(len(batch) == 1 or sum(tokens[i] for i in batch) <= budget for batch in batches)


@given(TOKENS, BUDGET, st.integers(0, 99))
def test_an_epoch_has_every_text_once_within_the_budget(tokens: list[int], budget: int, seed: int) -> None:
    check_sound(training_batches(tokens, budget, torch.Generator().manual_seed(seed)), tokens, budget)


@given(TOKENS, BUDGET)
def test_inference_has_every_text_once_the_longest_first(tokens: list[int], budget: int) -> None:
    batches = inference_batches(tokens, budget, range(len(tokens)))
    check_sound(batches, tokens, budget)
    order = [tokens[i] for batch in batches for i in batch]
    assert order == sorted(order, reverse=True)


def test_jobs_on_one_text_stand_side_by_side() -> None:
    assert inference_batches([5, 5, 5, 5, 9], 10, [0, 1, 0, 1, 2]) == [[4], [0, 2], [1, 3]]


def test_jobs_on_one_text_share_a_batch_that_has_room_for_them() -> None:
    assert inference_batches([4, 4, 4, 3, 3, 3], 14, [0, 0, 0, 1, 1, 1]) == [[0, 1, 2], [3, 4, 5]]
    assert inference_batches([4, 4, 4], 8, [0, 0, 0]) == [[0, 1], [2]]


def test_no_text_gives_no_batch() -> None:
    assert inference_batches([], 16, []) == []
    assert training_batches([], 16, torch.Generator()) == []


def test_a_text_above_the_budget_is_a_batch_of_its_own() -> None:
    assert by_budget([0, 1, 2], [3, 99, 3], 10) == [[0], [1], [2]]


@given(TOKENS, BUDGET)
def test_one_seed_gives_one_order(tokens: list[int], budget: int) -> None:
    first, second = (training_batches(tokens, budget, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first == second


def test_epochs_differ() -> None:
    generator, tokens = torch.Generator().manual_seed(0), [5] * 200
    assert training_batches(tokens, 50, generator) != training_batches(tokens, 50, generator)


def test_texts_of_like_length_share_a_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 60, (2000,), generator=generator).tolist()
    batches = training_batches(tokens, 512, generator)
    spread = [max(tokens[i] for i in batch) - min(tokens[i] for i in batch) for batch in batches]
    assert sum(spread) / len(spread) < 10


def test_batches_are_full_on_average() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 60, (2000,), generator=generator).tolist()
    batches = training_batches(tokens, 512, generator)
    assert sum(tokens) / len(batches) == pytest.approx(512, rel=0.1)
