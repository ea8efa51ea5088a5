"""Laws of admission control."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.core.serving.engine.admission import MAX_RETRY_SECONDS, AdmissionControl
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import Flow


def flow(name: str) -> Flow:
    return Flow("client", name)


def of(tokens: int, **limits: float) -> AdmissionControl:
    return AdmissionControl(Limits(queue_tokens=tokens, **limits))  # type: ignore[arg-type]


def test_below_the_limit_every_request_is_admitted() -> None:
    admission = of(100)
    assert not admission.admit([(flow("a"), 99)])
    assert not admission.admit(
        [(flow("a"), 500)]
    )  # the last one admitted may be large, so that every size can be admitted


def test_at_the_limit_a_flooding_name_is_refused_and_others_are_admitted() -> None:
    admission = of(100)
    admission.admit([(flow("flood"), 100)])
    assert admission.admit([(flow("flood"), 1)]) == {flow("flood")}
    assert not admission.admit([(flow("calm"), 10)])


def test_a_request_is_admitted_as_a_whole_or_not_at_all() -> None:
    admission = of(100)
    admission.admit([(flow("flood"), 100)])
    assert admission.admit([(flow("calm"), 10), (flow("flood"), 10)]) == {flow("flood")}
    assert admission.tokens == 100


def test_a_request_above_the_limit_does_not_block_other_names() -> None:
    admission = of(100)
    assert not admission.admit([(flow("bulk"), 100_000)])
    assert admission.admit([(flow("bulk"), 1)]) == {flow("bulk")}
    assert not any(admission.admit([(flow(f"name {number}"), 10)]) for number in range(5))
    admission.correct([(flow("bulk"), -100_000)])
    assert admission.tokens == admission._counted == 50


def test_the_hard_limit_is_exceeded_by_at_most_one_request() -> None:
    admission = of(100)
    for number in range(1000):
        admission.admit([(flow(f"name {number}"), 10)])
    assert admission.tokens < 1.5 * 100 + 10


def test_a_name_may_queue_what_is_answered_in_time_at_its_own_rate() -> None:
    """Two names request without pause; one is answered 100 tokens a second, the other 900."""
    now = 0.0
    admission = AdmissionControl(Limits(queue_tokens=300, queue_seconds=0.3, batch_tokens=1000), lambda: now)
    rates, had = {"slow": 100, "fast": 900}, {"slow": 0, "fast": 0}
    for step in range(3000):
        now += 0.01
        for name, rate in rates.items():
            while not admission.admit([(flow(name), 1)]):
                had[name] += 1
            done = min(had[name], rate * (step + 1) // 100 - rate * step // 100)
            had[name] -= done
            admission.answered([(flow(name), 1)] * done)
    assert had["slow"] == pytest.approx(300 / 2, abs=5)  # an equal share, which is more than its rate allows
    assert had["fast"] == pytest.approx(0.3 * 900, abs=15)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 300), st.floats(1e-3, 1.0)), max_size=30))
def test_when_everything_is_answered_the_whole_capacity_is_free(steps: list[tuple[str, int, float]]) -> None:
    """Also if the limit changes meanwhile, which changes how much of a large name counts."""
    admission = of(1000, batch_tokens=10)
    under_way = []
    for name, cost, seconds in steps:
        if not admission.admit([(flow(name), cost)]):
            under_way.append((flow(name), -cost))
        admission.ran(10, seconds)
    admission.correct(under_way)
    assert (admission.tokens, admission._counted) == (0, 0)


def test_a_cancelled_request_does_not_raise_the_rate_of_its_name() -> None:
    """Otherwise clients that cancel early could queue more and more."""
    now = 0.0
    admission = AdmissionControl(Limits(queue_tokens=1000, batch_tokens=1000), lambda: now)
    most = 0
    admission.admit([(flow("hasty"), 1)])
    for _ in range(200):
        now += 0.1
        had = 0
        while not admission.admit([(flow("hasty"), 10)]):
            had += 10
        most = max(most, admission.tokens)
        admission.correct([(flow("hasty"), -had)])
    assert most <= 1000 + 10


def test_a_huge_answer_does_not_raise_the_share_of_its_name_above_the_limit() -> None:
    admission = of(1000)
    admission.admit([(flow("bulk"), 60_000)])
    admission.admit([(flow("bulk"), 1)])
    admission.answered([(flow("bulk"), 59_999)])
    had = 0
    while not admission.admit([(flow("bulk"), 10)]):
        had += 10
    assert had <= 1010


def test_an_answer_frees_its_capacity() -> None:
    admission = of(100)
    admission.admit([(flow("a"), 100)])
    admission.correct([(flow("a"), -100)])
    assert admission.tokens == 0
    assert not admission.admit([(flow("a"), 100)])


def test_retry_after_is_the_unanswered_tokens_over_the_measured_throughput() -> None:
    admission = of(10_000)
    admission.admit([(flow("a"), 5_000)])
    assumed = admission.limit / Limits().queue_seconds
    assert admission.retry_after() == math.ceil(5_000 / assumed)
    admission.ran(10, 1.0)  # too small to be measured
    assert admission.retry_after() == math.ceil(5_000 / assumed)
    for _ in range(100):
        admission.ran(1_000, 1.001)
    assert admission.retry_after() == 6
    admission.correct([(flow("a"), 10**9)])
    assert admission.retry_after() == MAX_RETRY_SECONDS


def test_the_busiest_name_is_the_one_with_most_tokens() -> None:
    admission = of(100)
    admission.admit([(flow("a"), 5), (flow("b"), 50)])
    assert admission.busiest(map(flow, "abc")) == flow("b")


def test_the_limit_is_what_the_recent_throughput_answers_in_time() -> None:
    admission = of(10_000, queue_seconds=0.5, workers=2)
    for _ in range(100):
        admission.ran(200, 0.1)  # on two workers at the same time
    assert admission.limit == 2000
    admission.ran(200, 0.4)
    assert 1400 < admission.limit < 2000
    for _ in range(100):
        admission.ran(200, 0.2)
    assert admission.limit == pytest.approx(1000, abs=1)


def test_the_limit_is_at_least_one_batch_and_at_most_queue_tokens() -> None:
    admission = of(10_000, batch_tokens=100)
    admission.ran(50, 500.0)
    assert admission.limit == 100
    admission.ran(10**9, 1.0)
    assert admission.limit == 10_000
