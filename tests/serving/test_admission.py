from __future__ import annotations

from onetrunk.core.serving.admission import MOST_SECONDS, Admission


def test_below_the_limit_everybody_is_let_in() -> None:
    admission = Admission(100)
    assert admission.admit([("a", 99)])
    assert admission.admit([("a", 500)])  # the last one in may be large: nothing is too large for ever


def test_at_the_limit_the_flood_is_refused_and_the_others_are_not() -> None:
    admission = Admission(100)
    admission.admit([("flood", 100)])
    assert not admission.admit([("flood", 1)])
    assert admission.admit([("calm", 10)])


def test_a_request_is_let_in_whole_or_not_at_all() -> None:
    admission = Admission(100)
    admission.admit([("flood", 100)])
    assert not admission.admit([("calm", 10), ("flood", 10)])
    assert admission.tokens == 100


def test_what_is_larger_than_the_limit_does_not_shut_out_the_others() -> None:
    admission = Admission(100)
    assert admission.admit([("bulk", 100_000)])
    assert not admission.admit([("bulk", 1)])
    assert all(admission.admit([(f"name {number}", 10)]) for number in range(10))
    admission.correct([("bulk", -100_000)])
    assert admission.tokens == admission._counted == 100


def test_half_as_much_again_is_never_passed_by_more_than_a_request() -> None:
    admission = Admission(100)
    for number in range(1000):
        admission.admit([(f"name {number}", 10)])
    assert admission.tokens < 1.5 * 100 + 10


def test_what_has_been_answered_makes_room() -> None:
    admission = Admission(100)
    admission.admit([("a", 100)])
    admission.correct([("a", -100)])
    assert admission.tokens == 0
    assert admission.admit([("a", 100)])


def test_the_advised_wait_is_what_waits_over_the_measured_speed() -> None:
    admission = Admission(10_000)
    admission.admit([("a", 5_000)])
    assert admission.retry_after() == 1  # nothing is known yet
    admission.ran(1_000, 1.0)
    assert admission.retry_after() == 5
    admission.admit([("a", 10**9)])
    assert admission.retry_after() == MOST_SECONDS


def test_the_busiest_name_is_the_one_with_most_tokens() -> None:
    admission = Admission(100)
    admission.admit([("a", 5), ("b", 50)])
    assert admission.busiest(["a", "b", "c"]) == "b"
