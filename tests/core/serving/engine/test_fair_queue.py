"""Laws of the fair queue."""

from __future__ import annotations

import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.core.serving.engine.fair_queue import DEMOTED_TOKENS, FairQueue

COSTS = st.integers(1, 300)
PUTS = st.lists(st.tuples(st.sampled_from("abc"), COSTS), max_size=40)


def filled(puts: list[tuple[str, int]]) -> FairQueue[tuple[str, int, int]]:
    queue: FairQueue[tuple[str, int, int]] = FairQueue()
    for number, (name, cost) in enumerate(puts):
        queue.put(name, cost, (name, cost, number))
    return queue


@given(PUTS, st.integers(1, 500))
def test_every_item_leaves_once_and_in_order_within_its_name(
    puts: list[tuple[str, int]], budget: int
) -> None:
    queue, left = filled(puts), []
    while batch := queue.take(budget):
        left += batch
    assert sorted(number for _, _, number in left) == list(range(len(puts)))
    for name in "abc":
        own = [number for other, _, number in left if other == name]
        assert own == sorted(own)
    assert (len(queue), queue.tokens) == (0, 0)


@given(PUTS, st.integers(1, 500))
def test_a_batch_keeps_the_budget_unless_it_is_one_item(puts: list[tuple[str, int]], budget: int) -> None:
    queue = filled(puts)
    while batch := queue.take(budget):
        assert len(batch) == 1 or sum(cost for _, cost, _ in batch) <= budget


@given(st.lists(COSTS, min_size=1, max_size=30), st.integers(1, 20))
def test_names_that_always_wait_get_equal_shares(costs: list[int], flood: int) -> None:
    """What two names were served differs by two items at most (Goyal, Vin and Cheng, theorem 1)."""
    queue = filled([("calm", cost) for cost in costs] + [("flood", 7)] * 100 * flood)
    had: Counter[str] = Counter()
    remaining = sum(costs)
    while remaining:
        for name, cost, _ in queue.take(64):
            had[name] += cost
            remaining -= cost * (name == "calm")
        if remaining and had["flood"] < 700 * flood:
            assert abs(had["calm"] - had["flood"]) <= 2 * 300, (costs, flood, had)


@given(PUTS, st.data())
def test_what_is_dropped_never_leaves_and_costs_nothing_more(
    puts: list[tuple[str, int]], data: st.DataObject
) -> None:
    queue: FairQueue[int] = FairQueue()
    for number, (name, cost) in enumerate(puts):
        queue.put(name, cost, number)
    dropped = data.draw(st.sets(st.sampled_from(range(len(puts))))) if puts else set()
    assert all(queue.drop(puts[number][0], number) for number in dropped)
    assert queue.tokens == sum(cost for number, (_, cost) in enumerate(puts) if number not in dropped)
    left = []
    while batch := queue.take(100):
        left += batch
    assert set(left) == set(range(len(puts))) - dropped
    assert not any(queue.drop(name, number) for number, (name, _) in enumerate(puts))


def test_dropping_all_items_of_a_name_empties_the_queue() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(1000):
        queue.put("a", 5, number)
    for number in range(1000):
        queue.drop("a", number)
    assert (len(queue), queue.tokens, queue.take(100)) == (0, 0, [])


def test_an_idle_name_saves_nothing_up() -> None:
    queue = filled([("idle", 1)])
    queue.take(100)
    for number in range(200):
        queue.put("busy", 10, ("busy", 10, number))
        queue.put("idle", 10, ("idle", 10, number))
    first = Counter(name for name, _, _ in queue.take(400))
    assert abs(first["busy"] - first["idle"]) <= DEMOTED_TOKENS // 10 + 1


def test_one_name_has_half_of_a_batch_until_it_was_alone_for_long() -> None:
    queue = filled([("calm", 8)] + [("busy", 8)] * 600)
    assert Counter(name for name, _, _ in queue.take(160)) == {"busy": 10, "calm": 1}
    assert Counter(name for name, _, _ in queue.take(160)) == {"busy": 10}
    left = 0
    while left < 300:
        left += len(queue.take(160))
    assert Counter(name for name, _, _ in queue.take(160)) == {"busy": 20}


def test_two_floods_leave_the_other_names_their_share() -> None:
    queue = filled([("one", 8), ("two", 8)] * 100 + [(f"calm {number}", 8) for number in range(3)])
    had = Counter(name for name, _, _ in queue.take(256))
    assert max(had["one"], had["two"]) <= 256 // 2 // 8
    assert [had[f"calm {number}"] for number in range(3)] == [1, 1, 1]


def test_a_demoted_name_adds_one_item_to_the_batches_of_others_and_has_none_of_its_own() -> None:
    queue = filled([("flood", 8)] * 100 + [("calm", 8), ("other", 8)] * 4)
    assert Counter(name for name, _, _ in queue.take(160, "flood")) == {"flood": 1, "calm": 4, "other": 4}
    assert queue.take(160, "flood") == []
    assert (len(queue), queue.take(8)[0][0]) == (99, "flood")


@given(PUTS, st.integers(1, 500))
def test_a_demoted_name_takes_nothing_from_the_others(puts: list[tuple[str, int]], budget: int) -> None:
    queue, left = filled(puts), []
    while batch := queue.take(budget, "a"):
        assert sum(name == "a" for name, _, _ in batch) <= 1
        assert any(name != "a" for name, _, _ in batch)
        left += batch
    assert {name for name, _, _ in queue.take(10**6)} <= {"a"}
    assert sum(name != "a" for name, _, _ in left) == sum(name != "a" for name, _ in puts)


@pytest.mark.parametrize("others", [1, 2, 3])
@pytest.mark.parametrize("cost", [8, 20, 100, 200, 300])
def test_a_demoted_name_is_served_beside_others_that_fill_a_batch(cost: int, others: int) -> None:
    queue = filled([("flood", cost)] * 10)
    had: Counter[str] = Counter()
    for number in range(200):
        for other in range(others):
            for i in range(20):
                queue.put(f"other {other}", 17, ("other", 17, 20 * number + i))
        had += Counter(name for name, _, _ in queue.take(256, "flood"))
    assert had["flood"] == min(10, 200 * DEMOTED_TOKENS // cost)


def test_long_items_cost_no_more_time_than_short_ones() -> None:
    """The event loop waits for the lock of the queue meanwhile."""
    queue = filled([(f"name {number}", 524_416) for number in range(32)])
    rounds = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal rounds
        rounds += 1

    sys.setprofile(count)
    try:
        assert len(queue.take(256)) == 1
    finally:
        sys.setprofile(None)
    assert rounds < 10_000


def test_a_name_that_was_demoted_for_long_has_saved_nothing_up() -> None:
    queue = filled([("flood", 8)] * 400)
    for number in range(200):
        queue.put("calm", 8, ("calm", 8, number))
        queue.take(160, "flood")
    for number in range(50):
        queue.put("calm", 8, ("calm", 8, number))
    had = Counter(name for _ in range(5) for name, _, _ in queue.take(64))
    assert abs(had["calm"] - had["flood"]) <= 2 * DEMOTED_TOKENS // 8


def test_names_with_equal_queues_fill_a_batch() -> None:
    names = [f"name {number}" for number in range(5)]
    assert len(filled([(name, 8) for name in names] * 100).take(160)) == 20


def test_a_name_that_cost_more_than_estimated_is_served_less_afterwards() -> None:
    queue = filled([("cheat", 8), ("calm", 8)] * 50)
    queue.take(16)
    queue.charge("cheat", 200)
    queue.charge("nobody", 200)
    had = Counter(name for _ in range(10) for name, _, _ in queue.take(16))
    assert (had["cheat"], had["calm"]) == (0, 20)
    had += Counter(name for _ in range(60) for name, _, _ in queue.take(16))
    assert had["cheat"] > 0


def test_a_name_whose_queue_is_empty_is_charged_all_the_same() -> None:
    """An item that is taken is tokenised afterwards: only then is its true cost known."""
    queue = filled([("cheat", 8), ("calm", 8)])
    assert len(queue.take(16)) == 2
    queue.charge("cheat", 200)
    for number in range(20):
        queue.put("cheat", 8, ("cheat", 8, number))
        queue.put("calm", 8, ("calm", 8, number))
    had = Counter(name for _ in range(10) for name, _, _ in queue.take(16))
    assert had == {"calm": 20}


def test_the_time_of_a_batch_does_not_grow_with_the_number_of_names() -> None:
    def calls(names: int) -> int:
        queue, count = filled([(f"name {number}", 8) for number in range(names)]), 0

        def increment(frame: object, event: str, argument: object) -> None:
            nonlocal count
            count += 1

        sys.setprofile(increment)
        try:
            queue.take(64)
        finally:
            sys.setprofile(None)
        return count

    assert calls(5000) <= calls(50) + 10


@given(PUTS, st.integers(1, 500))
def test_urgent_items_are_those_of_accepted_names_and_keep_the_budget(
    puts: list[tuple[str, int]], budget: int
) -> None:
    queue, left = filled(puts), []
    while batch := queue.take_some(budget, lambda name: name != "a"):
        assert len(batch) == 1 or sum(cost for _, cost, _ in batch) <= budget
        left += batch
    assert sorted(left, key=lambda each: each[2]) == [
        (name, cost, number) for number, (name, cost) in enumerate(puts) if name != "a"
    ]
    assert len(queue) == sum(name == "a" for name, _ in puts)


def test_an_item_that_is_put_to_the_front_leaves_first() -> None:
    queue = filled([("a", 8), ("a", 8)])
    queue.put("a", 8, ("a", 8, 7), front=True)
    assert [number for _, _, number in queue.take(100)] == [7, 0, 1]
