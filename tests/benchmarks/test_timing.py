from __future__ import annotations

import time

import torch

from benchmarks.timing import Timing, interleave

CPU = torch.device("cpu")


def test_every_variant_has_one_turn_a_round_and_none_two_in_a_row_of_rounds_alone() -> None:
    turns: list[str] = []
    calls = {name: (lambda name=name: turns.append(name)) for name in ("a", "b", "c")}
    timings = interleave(calls, rounds=5, least=0.0, device=CPU, settle=0.0)
    rounds = [turns[i : i + 3] for i in range(0, 15, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len({tuple(order) for order in rounds}) > 1
    assert all(len(timing.rounds) == 5 and len(timing.calls) == 5 for timing in timings.values())


def test_a_turn_lasts_as_long_as_it_should_and_leaves_out_its_first_call() -> None:
    durations = iter([0.05, *[0.004] * 1000])
    timing = interleave(
        {"slow start": lambda: time.sleep(next(durations))}, rounds=1, least=0.08, device=CPU, settle=0.0
    )["slow start"]
    assert len(timing.calls) >= 2
    assert max(timing.calls[:1]) < 0.05


def test_a_turn_of_one_call_keeps_it() -> None:
    timing = interleave({"once": lambda: time.sleep(0.01)}, rounds=2, least=0.0, device=CPU, settle=0.0)
    assert [len(calls) for calls in timing["once"].rounds] == [1, 1]
    assert timing["once"].median >= 0.01


def test_a_disturbed_round_does_not_move_the_median() -> None:
    timing = Timing(((1.0, 1.0), (9.0, 9.0, 9.0, 9.0), (1.2, 1.0)))
    assert timing.median == 1.1
    assert timing.p95 == 9.0
    assert timing.to_json() == {"median": 1.1, "p95": 9.0, "calls": 8, "round_medians": [1.0, 9.0, 1.1]}
