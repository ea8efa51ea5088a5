"""Repeated requests: a service that is overloaded, unreachable, starting or shutting down."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.core.client import AsyncClient, Client, Retries, ServiceError, ServiceUnreachable
from onetrunk.core.client.retry import asked_for, pause
from onetrunk.core.errors import UsageError
from tests.core.client.answers import Ask, echo, labels, mood, result
from tests.peer import Peer, Said, busy, lines, listening, problem, said


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again_after_its_retry_after(ask: Ask, peer: Peer, status: int) -> None:
    peer.says(busy(status, Retry_After="1"), said({"status": "ready"}))
    assert ask("status") == {"status": "ready"}
    first, second = peer.asked
    assert 1.0 <= second.at - first.at < 1.9


def test_a_retry_after_date_is_measured_by_the_clock_of_the_service(ask: Ask, peer: Peer) -> None:
    now = datetime(2001, 1, 1, tzinfo=UTC)
    # http.server sends its own Date header; passing both headers directly tests one fixed pair.
    head = {"date": format_datetime(now, usegmt=True)}
    head["retry-after"] = format_datetime(now + timedelta(seconds=7), usegmt=True)
    assert asked_for(head, datetime.now(UTC)) == 7.0
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    peer.says(busy(503, Retry_After=soon), said({"status": "ready"}))
    ask("status")
    first, second = peer.asked
    assert 0.9 <= second.at - first.at < 3.5


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        (" 12 ", 12.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        ("9" * 400, float("inf")),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Fri, 31 Dec 9999 99:99:99 GMT", None),
    ],
)
def test_a_valid_retry_after_is_read_and_an_invalid_one_ignored(header: str, seconds: float | None) -> None:
    assert asked_for({"retry-after": header}, datetime.now(UTC)) == seconds


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ (GMT|\+\d+)"))
def test_no_retry_after_header_raises(header: str) -> None:
    found = asked_for({"retry-after": header, "date": header}, datetime.now(UTC))
    assert found is None or found >= 0


@given(st.integers(1, 1000), st.none() | st.floats(0, 1e6), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_at_least_as_long_as_asked_and_at_most_a_quarter_longer(
    tried: int, asked: float | None, chance: float
) -> None:
    found = pause(tried, asked, chance)
    assert found >= (asked or 0.25)
    assert found <= 1.25 * max(asked or 0.0, 10.0)


def test_pauses_grow_and_are_spread_at_random() -> None:
    assert [pause(tried, 1.0, 0.0) for tried in range(1, 6)] == [1.0, 1.0, 1.0, 2.0, 4.0]
    assert pause(1, 1.0, 0.0) < pause(1, 1.0, 0.5) < pause(1, 1.0, 0.99)


def test_the_number_of_attempts_is_limited(ask: Ask, peer: Peer) -> None:
    peer.says(busy(429, Retry_After="0"))
    with pytest.raises(ServiceError, match="9 tokens wait") as caught:
        ask("status", retries=Retries(tries=3))
    assert len(peer.asked) == 3
    assert (caught.value.type, caught.value.problem["status"]) == ("queue-full", 429)


def test_no_attempt_begins_after_the_time_limit(ask: Ask, peer: Peer) -> None:
    peer.says(busy(503, Retry_After="3600"))
    began = time.monotonic()
    with pytest.raises(ServiceError, match="9 tokens wait"):
        ask("status")
    assert len(peer.asked) == 1
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 422, 500, 502])
def test_a_request_that_fails_for_good_is_not_retried(ask: Ask, peer: Peer, status: int) -> None:
    peer.says(problem(status, "wrong", "this is wrong", known=["a"]))
    with pytest.raises(ServiceError, match="this is wrong") as caught:
        ask("predict", ["x"], ["mood"])
    assert len(peer.asked) == 1
    assert caught.value.problem["known"] == ["a"]
    assert (caught.value.type, caught.value.input) == ("wrong", None)


def test_a_stream_retries_a_refused_request_and_goes_on(ask: Ask, peer: Peer) -> None:
    peer.says(echo, busy(503, Retry_After="0"), echo)
    texts = [f"text {number}" for number in range(1000)]
    assert labels(ask("predict_stream", texts, ["mood"])) == texts
    assert [len(asked.lines) for asked in peer.asked] == [512, 488, 488]


LEAVING = {"error": {"type": "/problems/shutting-down", "status": 503, "detail": "it ends", "line": 3}}


def test_a_stream_resends_the_remaining_texts_when_the_service_shuts_down(ask: Ask, peer: Peer) -> None:
    peer.says(lines(result(mood("a")), result(mood("b")), LEAVING), busy(503, Retry_After="0"), echo)
    assert labels(ask("predict_stream", list("abcd"), ["mood"])) == list("abcd")
    assert [[each["text"] for each in asked.lines] for asked in peer.asked] == [
        list("abcd"),
        list("cd"),
        list("cd"),
    ]


def test_a_shutdown_after_the_last_text_loses_no_answer(ask: Ask, peer: Peer) -> None:
    peer.says(lines(result(mood("a")), LEAVING))
    assert labels(ask("predict_stream", ["a"], ["mood"])) == ["a"]
    assert len(peer.asked) == 1


def test_a_service_that_shuts_down_without_an_answer_is_given_up(ask: Ask, peer: Peer) -> None:
    peer.says(lines(LEAVING))
    with pytest.raises(ServiceError, match="text 1: it ends"):
        ask("predict_stream", ["a"], ["mood"], retries=Retries(tries=3))
    assert len(peer.asked) == 3


def test_attempts_are_counted_anew_after_each_answer_of_a_stream(ask: Ask, peer: Peer) -> None:
    peer.says(*(lines(result(mood(text)), LEAVING) for text in "abcd"))
    assert labels(ask("predict_stream", list("abcd"), ["mood"], retries=Retries(tries=2))) == list("abcd")


def test_a_service_that_is_about_to_start_is_waited_for(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    started = threading.Event()

    def start() -> None:
        time.sleep(0.6)
        with listening(port) as server:
            server.says(said({"status": "ready"}))
            started.wait(10)

    thread = threading.Thread(target=start)
    thread.start()
    try:
        assert ask("status", url=f"http://127.0.0.1:{port}") == {"status": "ready"}
    finally:
        started.set()
        thread.join()


def test_a_port_where_nothing_listens_is_reported_in_a_few_seconds(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(ServiceUnreachable, match=r"cannot be reached \(.*\); check the URL"):
        ask("status", url=f"http://127.0.0.1:{port}")
    assert 1 < time.monotonic() - began < 6


def test_a_connection_that_breaks_before_the_answer_is_retried(ask: Ask, peer: Peer) -> None:
    peer.says(Said(breaks=True), said({"results": [result(mood())]}))
    assert labels(ask("predict", ["x"], ["mood"])) == ["positive"]


def test_an_unload_is_not_retried_after_a_broken_connection(ask: Ask, peer: Peer) -> None:
    peer.says(Said(breaks=True), Said(status=204))
    with pytest.raises(ServiceUnreachable, match="the connection broke"):
        ask("unload", "mood")
    assert len(peer.asked) == 1


def test_a_connection_that_the_service_closes_between_requests_is_opened_anew(peer: Peer) -> None:
    peer.says(Said(b'{"n": 1}', closes=True), said({"n": 2}))
    with Client(peer.url) as client:
        assert [client.status(), client.status()] == [{"n": 1}, {"n": 2}]


def test_a_wait_does_not_block_the_event_loop(peer: Peer) -> None:
    peer.says(busy(429, Retry_After="1"), said({"status": "ready"}))

    async def run() -> int:
        async with AsyncClient(peer.url) as client:
            asked, ticks = asyncio.create_task(client.status()), 0
            while not asked.done():
                await asyncio.sleep(0.02)
                ticks += 1
            return ticks

    assert asyncio.run(run()) > 20


@pytest.mark.parametrize("options", [{"tries": 0}, {"seconds": -1.0}, {"seconds": float("nan")}])
def test_impossible_retries_are_refused(options: Any) -> None:
    with pytest.raises(UsageError, match="expected at least 1 try and at least 0 seconds"):
        Retries(**options)


@pytest.mark.parametrize("asked", ["100000", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_wait_beyond_the_time_of_the_retries_fails_at_once(ask: Ask, peer: Peer, asked: str) -> None:
    peer.says(busy(429, Retry_After=asked))
    began = time.monotonic()
    with pytest.raises(ServiceError):
        ask("status")
    assert time.monotonic() - began < 5
    assert len(peer.asked) == 1
