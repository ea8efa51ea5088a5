from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.core.inference.cpu_parallel import LEAST_TOKENS, MOST, run_parallel, split_for_threads
from onetrunk.core.trunk.batching import evenly

CPU = torch.device("cpu")


@pytest.fixture
def threads() -> Iterator[int]:
    """Two threads of torch, for as long as a test runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(before)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.integers(1, 6))
def test_runs_are_about_even_and_have_everything_once_and_in_order(tokens: list[int], parts: int) -> None:
    runs = evenly(range(len(tokens)), tokens, parts)
    assert [index for run in runs for index in run] == list(range(len(tokens)))
    assert len(runs) <= parts
    for run in runs:
        assert sum(tokens[i] for i in run) < sum(tokens) / parts + max(tokens)


def test_a_batch_is_cut_by_key_where_each_lane_has_enough_to_do(threads: int) -> None:
    tokens, keys = [LEAST_TOKENS // 2] * 4, [7, 3, 7, 3]
    assert split_for_threads(tokens, keys, CPU) == [[1, 3], [0, 2]]
    assert split_for_threads(tokens[1:], keys[1:], CPU) == [[0, 1, 2]]
    assert split_for_threads(tokens, keys, torch.device("cuda")) == [[0, 1, 2, 3]]
    torch.set_num_threads(1)
    assert split_for_threads(tokens, keys, CPU) == [[0, 1, 2, 3]]


def test_results_come_in_order_from_several_threads_each_with_its_share(threads: int) -> None:
    both = threading.Barrier(2, timeout=20)  # which one thread alone never passes

    def work(item: int) -> tuple[int, int, bool]:
        both.wait()
        return item, torch.get_num_threads(), torch.is_grad_enabled()

    assert run_parallel(work, range(6)) == [(item, 1, False) for item in range(6)]
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (2, True)


def test_a_thread_that_first_computes_during_a_run_has_all_threads(threads: int) -> None:
    found: list[int] = []

    def first() -> None:
        torch.ones(2) @ torch.ones(2)
        found.append(torch.get_num_threads())

    def work(item: int) -> None:
        other = threading.Thread(target=first)
        other.start()
        other.join()

    run_parallel(work, range(4))
    assert found == [threads] * 4


def test_what_fails_in_a_lane_is_raised_once_all_have_ended(threads: int) -> None:
    ended = []

    def work(item: int) -> None:
        if item == 1:
            raise ValueError("the second")
        ended.append(item)

    with pytest.raises(ValueError, match="the second"):
        run_parallel(work, range(2))
    assert ended == [0]
    assert torch.get_num_threads() == 2
    assert run_parallel(abs, [-1, -2]) == [1, 2]


def test_who_comes_while_others_have_the_lanes_does_without(threads: int) -> None:
    def inner(item: int) -> str:
        return threading.current_thread().name

    def outer(item: int) -> list[str]:
        return run_parallel(inner, range(2 * MOST))

    assert all(len(set(names)) == 1 for names in run_parallel(outer, range(2)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_lanes_of_its_own(threads: int) -> None:
    assert run_parallel(abs, [-1, -2]) == [1, 2]
    child = os.fork()
    if not child:
        os._exit(0 if run_parallel(abs, [-1, -2]) == [1, 2] else 1)
    assert os.waitpid(child, 0)[1] == 0
