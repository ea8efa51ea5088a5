"""The client against real servers on loopback: busy, wrong, slow, and such as break off."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.core.client import (
    AnswerError,
    AsyncClient,
    Client,
    ClientError,
    Prediction,
    Retries,
    ServiceError,
    ServiceUnreachable,
)
from onetrunk.core.client.requests import Chunks
from onetrunk.core.client.responses import Body
from onetrunk.core.client.retry import asked_for, pause
from onetrunk.core.errors import UsageError
from tests.peer import LINES, PROBLEM, Asked, Peer, Said, busy, lines, listening, problem, said

TOKEN = "a-token-of-32-characters-nobody-knows"
ONCE = Retries(tries=1)
Ask = Callable[..., Any]


@pytest.fixture
def peer() -> Iterator[Peer]:
    with listening() as server:
        yield server


async def _asked(url: str, method: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    async with AsyncClient(url, **options) as client:
        found = getattr(client, method)(*arguments)
        return [each async for each in found] if method == "predict_stream" else await found


@pytest.fixture(params=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest, peer: Peer) -> Ask:
    """Call a method of each client in turn."""

    def call(method: str, *arguments: Any, url: str = peer.url, **options: Any) -> Any:
        if request.param == "AsyncClient":
            return asyncio.run(_asked(url, method, arguments, options))
        with Client(url, **options) as client:
            found = getattr(client, method)(*arguments)
            return list(found) if method == "predict_stream" else found

    return call


def mood(label: str = "positive") -> dict[str, Any]:
    return {"adapter": "mood@prod", "version": "mood@2", "task": "sentiment", "label": label, "score": 0.5}


def result(*answers: Any) -> dict[str, Any]:
    return {"answers": list(answers)}


def echo(asked: Asked) -> Said:
    """Answer each line with its text as the label."""
    return lines(*(result(mood(each["text"])) for each in asked.lines))


def labels(answers: list[list[Prediction]]) -> list[str]:
    return [each.result["label"] for (each,) in answers]


# What is asked, and what comes back


def test_predict_gives_a_prediction_for_each_text_and_adapter(ask: Ask, peer: Peer) -> None:
    names = {"adapter": "names", "version": "names@1", "task": "ner", "entities": []}
    peer.says(said({"results": [result(mood(), names), result(mood("negative"), names)]}))
    found = ask("predict", ["good", "bad"], ["mood@prod", "names"])
    assert found == [
        [
            Prediction(text, "mood@2", {"label": label, "score": 0.5}),
            Prediction(text, "names@1", {"entities": []}),
        ]
        for text, label in (("good", "positive"), ("bad", "negative"))
    ]
    (asked,) = peer.asked
    assert (asked.method, asked.path) == ("POST", "/v1/predict")
    assert asked.headers["Content-Type"] == "application/json"
    expected = [{"text": text, "adapters": ["mood@prod", "names"]} for text in ("good", "bad")]
    assert asked.json == {"inputs": expected}


def test_a_record_keeps_its_keys_in_their_order(ask: Ask, peer: Peer) -> None:
    peer.says(said({"results": [result({"version": "t@1", "z": 1, "adapter": "t", "a": 2, "task": "t"})]}))
    ((found,),) = ask("predict", ["x"], ["t"])
    assert list(found.to_json()) == ["text", "adapter", "z", "a"]


def test_no_text_is_no_request(ask: Ask, peer: Peer) -> None:
    assert ask("predict", [], ["mood"]) == []
    assert ask("predict_stream", [], ["mood"]) == []
    assert peer.asked == []


@pytest.mark.parametrize("texts", ["good", 7, ["good", 7], (text for text in ("good",))])
def test_what_is_no_list_of_strings_is_a_type_error(ask: Ask, texts: Any) -> None:
    with pytest.raises(TypeError, match="texts must be a list of strings"):
        ask("predict", texts, ["mood"])


def test_a_stream_needs_a_list_of_adapters_and_strings(ask: Ask) -> None:
    with pytest.raises(TypeError, match="adapters must be a list of strings"):
        ask("predict_stream", ["good"], "mood")
    with pytest.raises(TypeError, match="texts must be strings"):
        ask("predict_stream", [7], ["mood"])


def test_a_text_that_is_no_unicode_is_refused_with_what_stands_near(ask: Ask) -> None:
    with pytest.raises(UsageError, match=r"half a surrogate pair is no character.*caf\\udce9"):
        ask("predict", ["caf\udce9"], ["mood"])


def test_a_stream_answers_every_text_in_order_in_several_requests(ask: Ask, peer: Peer) -> None:
    peer.says(echo)
    texts = [f"text {number}" for number in range(1300)]
    assert labels(ask("predict_stream", iter(texts), ["mood"])) == texts
    assert [len(asked.lines) for asked in peer.asked] == [512, 512, 276]
    assert {asked.path for asked in peer.asked} == {"/v1/predict/stream"}
    assert {asked.headers["Content-Type"] for asked in peer.asked} == {LINES}


def test_only_a_line_feed_ends_a_line(ask: Ask, peer: Peer) -> None:
    peer.says(echo)
    texts = ["a\u2028b", "a\x85b", "a\r\nb", "\x0c", "東京 🙂", ""]
    assert labels(ask("predict_stream", texts, ["mood"])) == texts


def test_an_answer_may_come_in_any_pieces(ask: Ask, peer: Peer) -> None:
    texts = ["one", "東京 🙂", "three"]
    whole = b"".join(json.dumps(result(mood(text)), ensure_ascii=False).encode() + b"\n" for text in texts)
    peer.says(Said([whole[at : at + 1] for at in range(len(whole) - 1)], kind=LINES))
    assert labels(ask("predict_stream", texts, ["mood"])) == texts


@given(st.lists(st.integers(0, 60_000), max_size=40), st.integers(1, 8))
def test_chunks_hold_every_text_once_and_stay_small(lengths: list[int], most: int) -> None:
    chunks = Chunks(["mood"], most)
    texts = ["x" * length for length in lengths]
    found = [chunk for text in texts if (chunk := chunks.add(text))] + [c for c in [chunks.rest()] if c]
    assert [text for chunk in found for text in chunk.texts] == texts
    assert [chunk.first for chunk in found] == [
        sum(len(each.texts) for each in found[:n]) for n in range(len(found))
    ]
    assert all(1 <= len(chunk.texts) <= most for chunk in found)
    assert all(len(chunk.call.body) <= 48 * 1024 or len(chunk.texts) == 1 for chunk in found)


def test_with_a_chunk_of_one_each_text_is_answered_before_the_next_is_read(peer: Peer) -> None:
    peer.says(echo)
    events = []

    def typed() -> Iterator[str]:
        for text in ("a", "b"):
            events.append(f"read {text}")
            yield text

    with Client(peer.url) as client:
        answers = client.predict_stream(typed(), ["mood"], chunk=1)
        events.extend(f"answered {each.text}" for (each,) in answers)
    assert events == ["read a", "answered a", "read b", "answered b"]


def test_an_asynchronous_stream_of_texts_is_read_as_well(peer: Peer) -> None:
    peer.says(echo)

    async def texts() -> AsyncIterator[str]:
        for text in ("a", "b"):
            await asyncio.sleep(0)
            yield text

    async def run() -> list[list[Prediction]]:
        async with AsyncClient(peer.url) as client:
            return [each async for each in client.predict_stream(texts(), ["mood"])]

    assert labels(asyncio.run(run())) == ["a", "b"]


def test_a_service_that_answers_each_line_before_it_reads_on_is_no_deadlock(ask: Ask) -> None:
    texts = [f"a text of some length, number {number}" for number in range(512)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_answer_eagerly, args=(listener, 100_000))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert labels(ask("predict_stream", texts, ["mood"], url=url)) == texts
        thread.join()


def _answer_eagerly(listener: socket.socket, padding: int) -> None:
    """Serve one request so that megabytes of answers are written while most of its lines are not read yet."""
    connection, _ = listener.accept()
    with connection, connection.makefile("rwb", buffering=0) as stream:
        left = 0
        while (head := stream.readline()) != b"\r\n":
            if head.lower().startswith(b"content-length:"):
                left = int(head.split(b":")[1])
        stream.write(f"HTTP/1.1 200 OK\r\nContent-Type: {LINES}\r\nConnection: close\r\n\r\n".encode())
        while left:
            line = stream.readline()
            left -= len(line)
            answer = result({**mood(json.loads(line)["text"]), "padding": "x" * padding})
            stream.write(json.dumps(answer).encode() + b"\n")


def test_answers_are_not_fetched_faster_than_they_are_taken(peer: Peer) -> None:
    sent = []

    def parts() -> Iterator[bytes]:
        line = json.dumps(result({**mood(), "padding": "x" * 1_000_000})).encode() + b"\n"
        for number in range(64):
            sent.append(number)
            yield line

    peer.says(Said(parts(), kind=LINES))
    with Client(peer.url) as client:
        answers = client.predict_stream(["x"] * 64, ["mood"])
        next(answers)
        time.sleep(0.5)
        assert len(sent) < 32  # what the buffers of two sockets take
        assert len(list(answers)) == 63


def test_a_stream_that_is_left_closes_its_connection(peer: Peer) -> None:
    gone = threading.Event()

    def parts() -> Iterator[bytes]:
        try:
            while True:
                yield json.dumps(result(mood())).encode() + b"\n"
                time.sleep(0.01)
        finally:
            gone.set()

    peer.says(Said(parts(), kind=LINES))
    with Client(peer.url) as client:
        answers = client.predict_stream(["x"] * 500, ["mood"])
        next(answers)
        answers.close()  # type: ignore[attr-defined]
        assert gone.wait(5)


@pytest.mark.parametrize(
    ("method", "arguments", "way", "expected", "request_"),
    [
        ("status", (), said({"status": "ready"}), {"status": "ready"}, ("GET", "/v1/status", b"")),
        ("adapters", (), said({"adapters": [{"name": "a"}]}), [{"name": "a"}], ("GET", "/v1/adapters", b"")),
        ("adapter", ("a@b",), said({"name": "a@b"}), {"name": "a@b"}, ("GET", "/v1/adapters/a%40b", b"")),
        (
            "load",
            ("a", "org/a@v2"),
            said({"name": "a", "previous": None}, 201),
            {"name": "a", "previous": None},
            ("PUT", "/v1/adapters/a", b'{"ref": "org/a@v2"}'),
        ),
        ("unload", ("a",), Said(status=204), None, ("DELETE", "/v1/adapters/a", b"")),
    ],
)
def test_each_other_method_is_one_request(
    ask: Ask, peer: Peer, method: str, arguments: Any, way: Said, expected: Any, request_: Any
) -> None:
    peer.says(way)
    assert ask(method, *arguments) == expected
    (asked,) = peer.asked
    assert (asked.method, asked.path, asked.body) == request_


@pytest.mark.parametrize("name", ["", "../status", "a/b", "a?b", "é", "x" * 101])
@pytest.mark.parametrize("method", ["adapter", "load", "unload"])
def test_what_is_no_name_is_not_sent(ask: Ask, peer: Peer, method: str, name: str) -> None:
    with pytest.raises(UsageError, match="is not the name of a served adapter"):
        ask(method, name, *(["ner@1"] if method == "load" else []))
    assert peer.asked == []


def test_a_client_may_be_shared_between_threads(peer: Peer) -> None:
    peer.says(echo)
    found: dict[int, list[str]] = {}
    with Client(peer.url) as client:

        def run(number: int) -> None:
            texts = [f"{number} {each}" for each in range(20)]
            found[number] = labels(list(client.predict_stream(texts, ["mood"], chunk=3)))

        threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {number: [f"{number} {each}" for each in range(20)] for number in range(8)}


# A service that is busy, or away


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again_when_it_says(ask: Ask, peer: Peer, status: int) -> None:
    peer.says(busy(status, Retry_After="1"), said({"status": "ready"}))
    assert ask("status") == {"status": "ready"}
    first, second = peer.asked
    assert 1.0 <= second.at - first.at < 1.9


def test_a_date_is_honoured_by_the_clock_of_the_service(ask: Ask, peer: Peer) -> None:
    now = datetime(2001, 1, 1, tzinfo=UTC)
    # http.server sends its own Date first; what counts here is one pair of headers, so the whole head is ours.
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
def test_retry_after_is_read_or_passed_over(header: str, seconds: float | None) -> None:
    assert asked_for({"retry-after": header}, datetime.now(UTC)) == seconds


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ (GMT|\+\d+)"))
def test_no_header_breaks_the_reading_of_retry_after(header: str) -> None:
    found = asked_for({"retry-after": header, "date": header}, datetime.now(UTC))
    assert found is None or found >= 0


@given(st.integers(1, 1000), st.none() | st.floats(0, 1e6), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_at_least_as_long_as_asked_and_at_most_a_quarter_longer(
    tried: int, asked: float | None, chance: float
) -> None:
    found = pause(tried, asked, chance)
    assert found >= (asked or 0.25)
    assert found <= 1.25 * max(asked or 0.0, 10.0)


def test_pauses_grow_and_those_refused_together_come_back_apart() -> None:
    assert [pause(tried, 1.0, 0.0) for tried in range(1, 6)] == [1.0, 1.0, 1.0, 2.0, 4.0]
    assert pause(1, 1.0, 0.0) < pause(1, 1.0, 0.5) < pause(1, 1.0, 0.99)


def test_tries_are_bounded(ask: Ask, peer: Peer) -> None:
    peer.says(busy(429, Retry_After="0"))
    with pytest.raises(ServiceError, match="9 tokens wait") as caught:
        ask("status", retries=Retries(tries=3))
    assert len(peer.asked) == 3
    assert (caught.value.type, caught.value.problem["status"]) == ("queue-full", 429)


def test_no_try_begins_after_the_time_is_over(ask: Ask, peer: Peer) -> None:
    peer.says(busy(503, Retry_After="3600"))
    began = time.monotonic()
    with pytest.raises(ServiceError, match="9 tokens wait"):
        ask("status")
    assert len(peer.asked) == 1
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 422, 500, 502])
def test_what_is_wrong_is_never_sent_again(ask: Ask, peer: Peer, status: int) -> None:
    peer.says(problem(status, "wrong", "this is wrong", known=["a"]))
    with pytest.raises(ServiceError, match="this is wrong") as caught:
        ask("predict", ["x"], ["mood"])
    assert len(peer.asked) == 1
    assert caught.value.problem["known"] == ["a"]
    assert (caught.value.type, caught.value.input) == ("wrong", None)


def test_a_stream_waits_as_any_request_and_goes_on_where_it_was(ask: Ask, peer: Peer) -> None:
    peer.says(echo, busy(503, Retry_After="0"), echo)
    texts = [f"text {number}" for number in range(1000)]
    assert labels(ask("predict_stream", texts, ["mood"])) == texts
    assert [len(asked.lines) for asked in peer.asked] == [512, 488, 488]


LEAVING = {"error": {"type": "/problems/shutting-down", "status": 503, "detail": "it ends", "line": 3}}


def test_a_stream_goes_on_with_what_is_left_when_the_service_leaves_in_the_middle(
    ask: Ask, peer: Peer
) -> None:
    peer.says(lines(result(mood("a")), result(mood("b")), LEAVING), busy(503, Retry_After="0"), echo)
    assert labels(ask("predict_stream", list("abcd"), ["mood"])) == list("abcd")
    assert [[each["text"] for each in asked.lines] for asked in peer.asked] == [
        list("abcd"),
        list("cd"),
        list("cd"),
    ]


def test_a_service_that_leaves_after_the_last_text_has_answered_all(ask: Ask, peer: Peer) -> None:
    peer.says(lines(result(mood("a")), LEAVING))
    assert labels(ask("predict_stream", ["a"], ["mood"])) == ["a"]
    assert len(peer.asked) == 1


def test_a_service_that_only_leaves_is_given_up(ask: Ask, peer: Peer) -> None:
    peer.says(lines(LEAVING))
    with pytest.raises(ServiceError, match="text 1: it ends"):
        ask("predict_stream", ["a"], ["mood"], retries=Retries(tries=3))
    assert len(peer.asked) == 3


def test_a_service_that_leaves_again_and_again_but_answers_in_between_is_not_given_up(
    ask: Ask, peer: Peer
) -> None:
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


def test_where_nothing_listens_it_is_told_in_a_few_seconds(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(ServiceUnreachable, match=r"cannot be reached \(.*\); check the URL"):
        ask("status", url=f"http://127.0.0.1:{port}")
    assert 1 < time.monotonic() - began < 6


def test_a_connection_that_breaks_before_the_answer_is_tried_again(ask: Ask, peer: Peer) -> None:
    peer.says(Said(breaks=True), said({"results": [result(mood())]}))
    assert labels(ask("predict", ["x"], ["mood"])) == ["positive"]


def test_what_may_have_been_done_and_cannot_be_done_twice_is_not_sent_again(ask: Ask, peer: Peer) -> None:
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
def test_patience_must_mean_something(options: Any) -> None:
    with pytest.raises(UsageError, match="expected at least 1, and at least 0"):
        Retries(**options)


# Answers of something else, and such as break off


@pytest.mark.parametrize("method", ["status", "predict", "predict_stream", "unload"])
@pytest.mark.parametrize(
    ("way", "message"),
    [
        (
            Said(b"<html>hello</html>", 200, "text/html; charset=utf-8"),
            "answers 200 with text/html, which is no",
        ),
        (
            Said(b"<html>bad gateway</html>", 502, "text/html"),
            "answers 502 with text/html, which is no answer",
        ),
        (Said(b"", 404, ""), "answers 404 with no content type, which is no answer of a OneTrunk service"),
        (Said(b"{}", 500, "application/json"), "answers 500 with application/json, which is no answer"),
        (Said(b"oops", 400, PROBLEM), "the answer is not JSON"),
        (Said(b"[]", 400, PROBLEM), "a problem that is no JSON object"),
    ],
)
def test_an_answer_of_something_else_is_told_apart(
    ask: Ask, peer: Peer, method: str, way: Said, message: str
) -> None:
    peer.says(way)
    arguments = {"status": (), "unload": ("mood",)}.get(method, (["x"], ["mood"]))
    with pytest.raises(AnswerError, match=message):
        ask(method, *arguments)
    assert len(peer.asked) == 1


def test_a_page_that_a_proxy_sends_for_a_service_that_is_away_is_waited_for_too(ask: Ask, peer: Peer) -> None:
    peer.says(Said(b"<html>", 503, "text/html"), said({"status": "ready"}))
    assert ask("status") == {"status": "ready"}
    peer.says(Said(b"<html>", 503, "text/html"))
    with pytest.raises(AnswerError, match="answers 503 with text/html"):
        ask("status", retries=ONCE)


def test_a_redirection_is_not_followed_and_the_token_goes_nowhere(ask: Ask, peer: Peer) -> None:
    with listening() as other:
        other.says(said({"status": "ready"}))
        peer.says(Said(b"", 307, "text/html", {"Location": f"{other.url}/v1/status"}))
        with pytest.raises(AnswerError, match=f"answers 307, to {other.url}/v1/status"):
            ask("status", token=TOKEN)
        assert other.asked == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the answer is not JSON"),
        (b'{"results": [', "the answer is not JSON"),
        (b"\xff", "the answer is not JSON"),
        (b"[" * 100_000, "the answer is not JSON"),
        (b'{"results": [{"answers": [{"version": "a@1", "score": NaN}]}]}', "it has the number NaN"),
        (b"[]", "the answer is no JSON object"),
        (b"{}", "the answer has no list of 1 results"),
        (b'{"results": []}', "the answer has no list of 1 results"),
        (b'{"results": [{}, {}]}', "the answer has no list of 1 results"),
        (b'{"results": [[]]}', "text 1: the answer has no list of 1 answers"),
        (b'{"results": [{"answers": []}]}', "text 1: the answer has no list of 1 answers"),
        (b'{"results": [{"answers": [{"label": "x"}]}]}', "text 1: an answer does not say its version"),
    ],
)
def test_an_answer_of_another_shape_is_refused(ask: Ask, peer: Peer, body: bytes, message: str) -> None:
    peer.says(Said(body))
    with pytest.raises(AnswerError, match=message):
        ask("predict", ["x"], ["mood"])


@pytest.mark.parametrize("way", [said({}), said({"adapters": {}}), said({"adapters": ["mood"]})])
def test_a_list_of_adapters_must_be_one(ask: Ask, peer: Peer, way: Said) -> None:
    peer.says(way)
    with pytest.raises(AnswerError, match="the answer has no list of adapters"):
        ask("adapters")


def test_an_answer_that_breaks_off_is_no_answer(ask: Ask, peer: Peer) -> None:
    peer.says(Said(b'{"status": "ready"}', cut=10))
    with pytest.raises(AnswerError, match="the answer breaks off in the middle"):
        ask("status")


def _stream_of_two() -> bytes:
    return b"".join(json.dumps(result(mood(text))).encode() + b"\n" for text in "ab")


@pytest.mark.parametrize(
    "way",
    [
        Said(_stream_of_two(), kind=LINES),
        Said(_stream_of_two(), kind=LINES, cut=10),
        Said([_stream_of_two()], kind=LINES, cut=1),
        Said([_stream_of_two(), b'{"answers": ['], kind=LINES, cut=1),
    ],
    ids=["fewer lines", "fewer bytes", "no last chunk", "half a line"],
)
def test_a_stream_that_breaks_off_says_how_far_it_came(peer: Peer, way: Said) -> None:
    peer.says(way)
    with Client(peer.url) as client:
        answers = client.predict_stream(["a", "b", "c"], ["mood"])
        assert labels([next(answers), next(answers)]) == ["a", "b"]
        with pytest.raises(AnswerError, match="the answer breaks off after 2 of 3 texts"):
            next(answers)


def test_half_a_line_at_a_clean_end_is_not_json(ask: Ask, peer: Peer) -> None:
    peer.says(Said(_stream_of_two() + b'{"answers": [', kind=LINES))
    with pytest.raises(AnswerError, match="the answer is not JSON"):
        ask("predict_stream", ["a", "b", "c"], ["mood"])


def test_more_answers_than_texts_are_refused(ask: Ask, peer: Peer) -> None:
    peer.says(Said(_stream_of_two(), kind=LINES))
    with pytest.raises(AnswerError, match="answers more than 1 texts"):
        ask("predict_stream", ["a"], ["mood"])


def test_a_service_that_falls_silent_is_given_up(ask: Ask, peer: Peer) -> None:
    over = threading.Event()

    def silent(_asked: Asked) -> Said:
        over.wait(10)
        return said({})

    peer.says(silent)
    try:
        with pytest.raises(ServiceUnreachable, match=r"sends nothing for 0\.3 s"):
            ask("status", timeout=0.3)
        assert len(peer.asked) == 1
    finally:
        over.set()


def test_a_slow_stream_is_no_silent_one(ask: Ask, peer: Peer) -> None:
    def parts() -> Iterator[bytes]:
        for text in "abcdef":
            time.sleep(0.2)
            yield json.dumps(result(mood(text))).encode() + b"\n"

    peer.says(Said(parts(), kind=LINES))
    assert labels(ask("predict_stream", list("abcdef"), ["mood"], timeout=0.6)) == list("abcdef")


def test_a_stream_that_falls_silent_is_given_up(ask: Ask, peer: Peer) -> None:
    over = threading.Event()

    def parts() -> Iterator[bytes]:
        yield _stream_of_two()
        over.wait(10)

    peer.says(Said(parts(), kind=LINES))
    try:
        with pytest.raises(ServiceUnreachable, match=r"sends nothing for 0\.3 s"):
            ask("predict_stream", list("abc"), ["mood"], timeout=0.3)
    finally:
        over.set()


def test_what_speaks_no_http_is_told_in_a_few_seconds(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            with suppress(OSError):  # of the listener, once it is closed
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(b"SSH-2.0-server\r\n")

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        with pytest.raises(ServiceUnreachable, match="the connection broke"):
            ask("status", url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_no_more_of_an_answer_is_held_than_may_be() -> None:
    body = Body("http://h", most=2**20)
    body.add(b"x" * 2**20)
    with pytest.raises(AnswerError, match="the answer has over 1 MiB, more than is read"):
        body.add(b"x")


# One text that fails


def test_a_text_that_fails_is_named(ask: Ask, peer: Peer) -> None:
    failed = {"error": {"type": "/problems/text-too-long", "status": 422, "detail": "too long", "most": 9}}
    peer.says(said({"results": [result(mood()), failed]}))
    with pytest.raises(ServiceError, match="text 2: too long") as caught:
        ask("predict", ["a", "b"], ["mood"])
    assert (caught.value.input, caught.value.type, caught.value.problem["most"]) == (1, "text-too-long", 9)


def test_where_every_text_fails_the_first_is_named(ask: Ask, peer: Peer) -> None:
    peer.says(problem(404, "unknown-adapter", "no adapter 'x'", errors=[{"input": 0, "status": 404}]))
    with pytest.raises(ServiceError, match="text 1: no adapter 'x'") as caught:
        ask("predict", ["a"], ["x"])
    assert caught.value.input == 0


def test_a_text_of_a_stream_that_fails_is_counted_from_the_first_of_all(peer: Peer) -> None:
    failed = {"error": {"type": "/problems/text-too-long", "status": 422, "detail": "too long", "line": 1}}
    peer.says(echo, echo, lines(failed, result(mood("e"))))
    with Client(peer.url) as client:
        answers = client.predict_stream("abcdef", ["mood"], chunk=2)
        assert labels(list(islice(answers, 4))) == list("abcd")
        with pytest.raises(ServiceError, match="text 5: too long") as caught:
            next(answers)
    assert caught.value.input == 4


# Where it is, and the token


@pytest.mark.parametrize(
    "url", ["", "localhost:8080", "ftp://host", "http://", "http://host/?a=b", "http://host/#a", "/v1"]
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_is_no_url_of_a_service_is_refused(kind: Any, url: str) -> None:
    with pytest.raises(UsageError, match="expected http://HOST:PORT"):
        kind(url)


def test_a_password_in_a_url_is_refused_without_saying_it() -> None:
    with pytest.raises(UsageError, match="has a name or password in it; give a token instead") as caught:
        Client("https://ada:secret@host")
    assert "secret" not in str(caught.value)


def test_a_service_may_stand_below_a_path(ask: Ask, peer: Peer) -> None:
    peer.says(said({}))
    ask("status", url=f"{peer.url}/tasks/")
    assert peer.asked[0].path == "/tasks/v1/status"


def test_the_token_is_sent_with_every_request(ask: Ask, peer: Peer, tmp_path: Path) -> None:
    peer.says(said({}))
    ask("status", token=TOKEN)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    ask("status", token=tmp_path / "token")
    ask("status")
    sent = [asked.headers["Authorization"] for asked in peer.asked]
    assert sent == [f"Bearer {TOKEN}", f"Bearer {TOKEN}", None]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_no_form_of_a_client_shows_its_token(kind: Any, peer: Peer) -> None:
    client = kind(peer.url, TOKEN)
    assert repr(client) == f"{kind.__name__}('{peer.url}')"
    assert TOKEN not in repr(client) + str(client) + repr(client._http.headers)


@pytest.mark.parametrize("status", [401, 403, 503])
def test_a_token_that_the_service_says_back_is_not_repeated(
    ask: Ask, peer: Peer, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    peer.says(problem(status, "unauthorized", f"no such token {TOKEN}", token=TOKEN))
    with pytest.raises(ServiceError, match="no such token …") as caught:
        ask("status", token=TOKEN, retries=ONCE)
    assert TOKEN not in repr(caught.value) + repr(caught.value.problem) + caplog.text


@pytest.mark.parametrize("token", ["", " ", "two words", "ünicode", "a\nb", "\x1b[2J"])
def test_what_is_no_token_is_refused_without_saying_it(token: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^the token is no token; expected"):
        Client("http://host", token)
    (tmp_path / "token").write_text(token, encoding="utf-8")
    with pytest.raises(UsageError, match=f"^the file {tmp_path / 'token'} is no token; expected") as caught:
        Client("http://host", tmp_path / "token")
    assert not token.strip() or token not in str(caught.value)


def test_a_token_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none with the token cannot be read \(No such file"):
        Client("http://host", tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"binary with the token cannot be read \(it is no text\)"):
        Client("http://host", tmp_path / "binary")


def test_a_service_on_this_machine_is_not_asked_by_a_proxy(
    ask: Ask, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    peer.says(said({"status": "ready"}))
    assert ask("status") == {"status": "ready"}


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_must_be_a_time(timeout: float) -> None:
    with pytest.raises(UsageError, match="expected a number of seconds"):
        Client("http://host", timeout=timeout)


def test_every_error_is_one_of_the_client() -> None:
    assert {AnswerError.__base__, ServiceError.__base__, ServiceUnreachable.__base__} == {ClientError}


def test_the_client_loads_no_torch() -> None:
    script = "import sys, onetrunk.core.client; print(*{'torch', 'transformers', 'numpy', 'peft'} & {*sys.modules})"
    line = [sys.executable, "-c", script]
    done = subprocess.run(line, capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.strip() == ""
