from __future__ import annotations

import pytest

from onetrunk.core.serving.admission import MOST_SECONDS, Admission
from onetrunk.core.serving.limits import Limits


def of(tokens: int, **limits: float) -> Admission:
    return Admission(Limits(queue_tokens=tokens, **limits))  # type: ignore[arg-type]


def test_below_the_limit_everybody_is_let_in() -> None:
    admission = of(100)
    assert admission.admit([("a", 99)])
    assert admission.admit([("a", 500)])  # the last one in may be large: nothing is too large for ever


def test_at_the_limit_the_flood_is_refused_and_the_others_are_not() -> None:
    admission = of(100)
    admission.admit([("flood", 100)])
    assert not admission.admit([("flood", 1)])
    assert admission.admit([("calm", 10)])


def test_a_request_is_let_in_whole_or_not_at_all() -> None:
    admission = of(100)
    admission.admit([("flood", 100)])
    assert not admission.admit([("calm", 10), ("flood", 10)])
    assert admission.tokens == 100


def test_what_is_larger_than_the_limit_does_not_shut_out_the_others() -> None:
    admission = of(100)
    assert admission.admit([("bulk", 100_000)])
    assert not admission.admit([("bulk", 1)])
    assert all(admission.admit([(f"name {number}", 10)]) for number in range(10))
    admission.correct([("bulk", -100_000)])
    assert admission.tokens == admission._counted == 100


def test_half_as_much_again_is_never_passed_by_more_than_a_request() -> None:
    admission = of(100)
    for number in range(1000):
        admission.admit([(f"name {number}", 10)])
    assert admission.tokens < 1.5 * 100 + 10


def test_what_has_been_answered_makes_room() -> None:
    admission = of(100)
    admission.admit([("a", 100)])
    admission.correct([("a", -100)])
    assert admission.tokens == 0
    assert admission.admit([("a", 100)])


def test_the_advised_wait_is_what_waits_over_the_measured_speed() -> None:
    admission = of(10_000)
    admission.admit([("a", 5_000)])
    assert admission.retry_after() == 1  # nothing is known yet
    admission.ran(10, 1.0)  # too little to go by
    assert admission.retry_after() == 1
    admission.ran(1_000, 1.0)
    assert admission.retry_after() == 5
    admission.correct([("a", 10**9)])
    assert admission.retry_after() == MOST_SECONDS


def test_the_busiest_name_is_the_one_with_most_tokens() -> None:
    admission = of(100)
    admission.admit([("a", 5), ("b", 50)])
    assert admission.busiest(["a", "b", "c"]) == "b"


def test_the_limit_is_what_is_answered_in_time_at_the_speed_of_late() -> None:
    admission = of(10_000, queue_seconds=0.5, workers=2)
    for _ in range(100):
        admission.ran(200, 0.1)  # twice, at the same time
    assert admission.limit == 2000
    admission.ran(200, 0.4)
    assert 1400 < admission.limit < 2000
    for _ in range(100):
        admission.ran(200, 0.2)
    assert admission.limit == pytest.approx(1000, abs=1)


def test_a_batch_may_always_wait_and_never_more_than_the_limit_in_tokens() -> None:
    admission = of(10_000, batch_tokens=100)
    admission.ran(50, 500.0)
    assert admission.limit == 100
    admission.ran(10**9, 1.0)
    assert admission.limit == 10_000
