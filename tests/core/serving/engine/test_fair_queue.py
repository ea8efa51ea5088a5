from __future__ import annotations

import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.core.serving.engine.fair_queue import QUANTUM, FairQueue

COSTS = st.integers(1, 300)
PUTS = st.lists(st.tuples(st.sampled_from("abc"), COSTS), max_size=40)


def filled(puts: list[tuple[str, int]]) -> FairQueue[tuple[str, int, int]]:
    queue: FairQueue[tuple[str, int, int]] = FairQueue()
    for number, (flow, cost) in enumerate(puts):
        queue.put(flow, cost, (flow, cost, number))
    return queue


@given(PUTS, st.integers(1, 500))
def test_everything_leaves_once_and_in_order_within_its_flow(
    puts: list[tuple[str, int]], budget: int
) -> None:
    queue, left = filled(puts), []
    while batch := queue.take(budget):
        left += batch
    assert sorted(number for _, _, number in left) == list(range(len(puts)))
    for flow in "abc":
        own = [number for name, _, number in left if name == flow]
        assert own == sorted(own)
    assert (len(queue), queue.tokens) == (0, 0)


@given(PUTS, st.integers(1, 500))
def test_a_batch_keeps_the_budget_unless_it_is_one_item(puts: list[tuple[str, int]], budget: int) -> None:
    queue = filled(puts)
    while batch := queue.take(budget):
        assert len(batch) == 1 or sum(cost for _, cost, _ in batch) <= budget


@given(st.lists(COSTS, min_size=1, max_size=30), st.integers(1, 20))
def test_flows_that_always_wait_get_equal_shares(costs: list[int], flood: int) -> None:
    """What two flows have had differs by a quantum and two items at most (Shreedhar and Varghese, theorem 4.2)."""
    queue = filled([("calm", cost) for cost in costs] + [("flood", 7)] * 100 * flood)
    had: Counter[str] = Counter()
    remaining = sum(costs)
    while remaining:
        for flow, cost, _ in queue.take(64):
            had[flow] += cost
            remaining -= cost * (flow == "calm")
        if remaining and had["flood"] < 700 * flood:
            assert abs(had["calm"] - had["flood"]) <= QUANTUM + 2 * 300, (costs, flood, had)


@given(PUTS, st.data())
def test_what_is_dropped_never_leaves_and_costs_nothing_more(
    puts: list[tuple[str, int]], data: st.DataObject
) -> None:
    queue: FairQueue[int] = FairQueue()
    tickets = [queue.put(flow, cost, number) for number, (flow, cost) in enumerate(puts)]
    dropped = data.draw(st.sets(st.sampled_from(range(len(puts))))) if puts else set()
    assert all(queue.drop(tickets[number]) for number in dropped)
    assert queue.tokens == sum(cost for number, (_, cost) in enumerate(puts) if number not in dropped)
    left = []
    while batch := queue.take(100):
        left += batch
    assert set(left) == set(range(len(puts))) - dropped
    assert not any(queue.drop(ticket) for ticket in tickets)


def test_dropping_all_of_a_flow_forgets_it() -> None:
    queue: FairQueue[int] = FairQueue()
    for ticket in [queue.put("a", 5, number) for number in range(1000)]:
        queue.drop(ticket)
    assert (len(queue), queue.tokens, queue.take(100)) == (0, 0, [])


def test_who_has_had_nothing_to_do_saves_nothing_up() -> None:
    queue = filled([("idle", 1)])
    queue.take(100)
    for number in range(200):
        queue.put("busy", 10, ("busy", 10, number))
        queue.put("idle", 10, ("idle", 10, number))
    first = Counter(flow for flow, _, _ in queue.take(400))
    assert abs(first["busy"] - first["idle"]) <= QUANTUM // 10 + 1


def test_one_flow_has_half_of_a_batch_until_nobody_else_has_come_for_long() -> None:
    queue = filled([("calm", 8)] + [("busy", 8)] * 600)
    assert Counter(flow for flow, _, _ in queue.take(160)) == {"busy": 10, "calm": 1}
    assert Counter(flow for flow, _, _ in queue.take(160)) == {"busy": 10}
    left = 0
    while left < 300:
        left += len(queue.take(160))
    assert Counter(flow for flow, _, _ in queue.take(160)) == {"busy": 20}


def test_two_floods_leave_the_others_their_turns() -> None:
    queue = filled([("one", 8), ("two", 8)] * 100 + [(f"calm {number}", 8) for number in range(3)])
    had = Counter(flow for flow, _, _ in queue.take(256))
    assert max(had["one"], had["two"]) <= 256 // 2 // 8
    assert [had[f"calm {number}"] for number in range(3)] == [1, 1, 1]


def test_a_guest_rides_with_others_and_has_nothing_of_its_own() -> None:
    queue = filled([("flood", 8)] * 100 + [("calm", 8), ("other", 8)] * 4)
    assert Counter(flow for flow, _, _ in queue.take(160, "flood")) == {"flood": 1, "calm": 4, "other": 4}
    assert queue.take(160, "flood") == []
    assert (len(queue), queue.take(8)[0][0]) == (99, "flood")


@given(PUTS, st.integers(1, 500))
def test_a_guest_takes_nothing_from_the_others(puts: list[tuple[str, int]], budget: int) -> None:
    queue, left = filled(puts), []
    while batch := queue.take(budget, "a"):
        assert sum(flow == "a" for flow, _, _ in batch) <= 1
        assert any(flow != "a" for flow, _, _ in batch)
        left += batch
    assert {flow for flow, _, _ in queue.take(10**6)} <= {"a"}
    assert sum(flow != "a" for flow, _, _ in left) == sum(flow != "a" for flow, _ in puts)


@pytest.mark.parametrize("others", [1, 2, 3])
@pytest.mark.parametrize("cost", [8, 20, 100, 200, 300])
def test_a_guest_has_its_turns_beside_others_that_fill_a_batch(cost: int, others: int) -> None:
    queue = filled([("flood", cost)] * 10)
    had: Counter[str] = Counter()
    for number in range(200):
        for other in range(others):
            for _ in range(20):
                queue.put(f"other {other}", 17, ("other", 17, number))
        had += Counter(flow for flow, _, _ in queue.take(256, "flood"))
    assert had["flood"] == min(10, 200 * QUANTUM // cost)


def test_long_items_cost_no_more_time_than_short_ones() -> None:
    """Turn by turn they had 32,776 rounds, under the lock that the event loop waits for."""
    queue = filled([(f"flow {number}", 524_416) for number in range(32)])
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


def test_who_was_a_guest_for_long_has_saved_nothing_up() -> None:
    queue = filled([("flood", 8)] * 400)
    for number in range(200):
        queue.put("calm", 8, ("calm", 8, number))
        queue.take(160, "flood")
    for number in range(50):
        queue.put("calm", 8, ("calm", 8, number))
    had = Counter(flow for _ in range(5) for flow, _, _ in queue.take(64))
    assert abs(had["calm"] - had["flood"]) <= 2 * QUANTUM // 8


def test_flows_that_wait_alike_fill_a_batch() -> None:
    names = [f"flow {number}" for number in range(5)]
    assert len(filled([(name, 8) for name in names] * 100).take(160)) == 20


def test_a_flow_that_cost_more_than_was_asked_pays_with_its_next_turns() -> None:
    queue = filled([("cheat", 8), ("calm", 8)] * 50)
    queue.take(16)
    queue.charge("cheat", 200)
    queue.charge("nobody", 200)
    had = Counter(flow for _ in range(10) for flow, _, _ in queue.take(16))
    assert (had["cheat"], had["calm"]) == (0, 20)
    had += Counter(flow for _ in range(60) for flow, _, _ in queue.take(16))
    assert had["cheat"] > 0
