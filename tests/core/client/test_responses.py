"""Responses that are malformed, truncated, late or not from a OneTrunk service."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from onetrunk.core.client import AnswerError, Client, ServiceUnreachable
from onetrunk.core.client.responses import extend
from tests.core.client.answers import ONCE, TOKEN, Ask, labels, mood, result
from tests.peer import LINES, PROBLEM, Asked, Peer, Said, listening, said


@pytest.mark.parametrize("method", ["status", "predict", "predict_stream", "unload"])
@pytest.mark.parametrize(
    ("way", "message"),
    [
        (
            Said(b"<html>hello</html>", 200, "text/html; charset=utf-8"),
            "responds with status 200 and content type text/html; a OneTrunk service does not",
        ),
        (
            Said(b"<html>bad gateway</html>", 502, "text/html"),
            "responds with status 502 and content type text/html; a OneTrunk",
        ),
        (Said(b"", 404, ""), "responds with status 404 and content type \\(none\\); a OneTrunk"),
        (
            Said(b"{}", 500, "application/json"),
            "responds with status 500 and content type application/json; a OneTrunk",
        ),
        (Said(b"oops", 400, PROBLEM), "the response is not JSON"),
        (Said(b"[]", 400, PROBLEM), "a problem that is not a JSON object"),
    ],
)
def test_a_response_that_is_not_from_the_service_is_refused(
    ask: Ask, peer: Peer, method: str, way: Said, message: str
) -> None:
    peer.says(way)
    arguments = {"status": (), "unload": ("mood",)}.get(method, (["x"], ["mood"]))
    with pytest.raises(AnswerError, match=message):
        ask(method, *arguments)
    assert len(peer.asked) == 1


def test_a_503_page_of_a_proxy_is_retried(ask: Ask, peer: Peer) -> None:
    peer.says(Said(b"<html>", 503, "text/html"), said({"status": "ready"}))
    assert ask("status") == {"status": "ready"}
    peer.says(Said(b"<html>", 503, "text/html"))
    with pytest.raises(AnswerError, match="responds with status 503 and content type text/html"):
        ask("status", retries=ONCE)


def test_a_redirection_is_not_followed_and_the_token_is_not_sent_on(ask: Ask, peer: Peer) -> None:
    with listening() as other:
        other.says(said({"status": "ready"}))
        peer.says(Said(b"", 307, "text/html", {"Location": f"{other.url}/v1/status"}))
        with pytest.raises(
            AnswerError, match=f"responds with status 307 \\(a redirect to {other.url}/v1/status\\)"
        ):
            ask("status", token=TOKEN)
        assert other.asked == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the response is not JSON"),
        (b'{"results": [', "the response is not JSON"),
        (b"\xff", "the response is not UTF-8"),
        (b"[" * 100_000, "the response is nested deeper"),
        (
            b'{"results": [{"answers": [{"version": "a@1", "score": NaN}]}]}',
            "the response has the number NaN",
        ),
        (b"[]", "the response is not a JSON object"),
        (b"{}", "the response has no list of 1 results"),
        (b'{"results": []}', "the response has no list of 1 results"),
        (b'{"results": [{}, {}]}', "the response has no list of 1 results"),
        (b'{"results": [[]]}', "text 1: the response has no list of 1 answers"),
        (b'{"results": [{"answers": []}]}', "text 1: the response has no list of 1 answers"),
        (b'{"results": [{"answers": [{"label": "x"}]}]}', "text 1: an answer has no version"),
    ],
)
def test_a_response_of_the_wrong_shape_is_refused(ask: Ask, peer: Peer, body: bytes, message: str) -> None:
    peer.says(Said(body))
    with pytest.raises(AnswerError, match=message):
        ask("predict", ["x"], ["mood"])


@pytest.mark.parametrize("way", [said({}), said({"adapters": {}}), said({"adapters": ["mood"]})])
def test_a_response_without_a_list_of_adapters_is_refused(ask: Ask, peer: Peer, way: Said) -> None:
    peer.says(way)
    with pytest.raises(AnswerError, match="the response has no list of adapters"):
        ask("adapters")


def test_a_truncated_response_is_refused(ask: Ask, peer: Peer) -> None:
    peer.says(Said(b'{"status": "ready"}', cut=10))
    with pytest.raises(AnswerError, match="the response was cut off in the middle"):
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
def test_a_truncated_stream_reports_how_many_texts_were_answered(peer: Peer, way: Said) -> None:
    peer.says(way)
    with Client(peer.url) as client:
        answers = client.predict_stream(["a", "b", "c"], ["mood"])
        assert labels([next(answers), next(answers)]) == ["a", "b"]
        with pytest.raises(AnswerError, match="the response was cut off after 2 of 3 texts"):
            next(answers)


def test_half_a_line_at_the_end_of_a_complete_body_is_not_json(ask: Ask, peer: Peer) -> None:
    peer.says(Said(_stream_of_two() + b'{"answers": [', kind=LINES))
    with pytest.raises(AnswerError, match="the response is not JSON"):
        ask("predict_stream", ["a", "b", "c"], ["mood"])


def test_more_answers_than_texts_are_refused(ask: Ask, peer: Peer) -> None:
    peer.says(Said(_stream_of_two(), kind=LINES))
    with pytest.raises(AnswerError, match="responds with more results than the 1 texts"):
        ask("predict_stream", ["a"], ["mood"])


def test_a_silent_service_raises_after_the_timeout(ask: Ask, peer: Peer) -> None:
    over = threading.Event()

    def silent(_asked: Asked) -> Said:
        over.wait(10)
        return said({})

    peer.says(silent)
    try:
        with pytest.raises(ServiceUnreachable, match=r"no data for 0\.3 s"):
            ask("status", timeout=0.3)
        assert len(peer.asked) == 1
    finally:
        over.set()


def test_a_slow_stream_does_not_time_out(ask: Ask, peer: Peer) -> None:
    def parts() -> Iterator[bytes]:
        for text in "abcdef":
            time.sleep(0.2)
            yield json.dumps(result(mood(text))).encode() + b"\n"

    peer.says(Said(parts(), kind=LINES))
    assert labels(ask("predict_stream", list("abcdef"), ["mood"], timeout=0.6)) == list("abcdef")


def test_a_silent_stream_raises_after_the_timeout(ask: Ask, peer: Peer) -> None:
    over = threading.Event()

    def parts() -> Iterator[bytes]:
        yield _stream_of_two()
        over.wait(10)

    peer.says(Said(parts(), kind=LINES))
    try:
        with pytest.raises(ServiceUnreachable, match=r"no data for 0\.3 s"):
            ask("predict_stream", list("abc"), ["mood"], timeout=0.3)
    finally:
        over.set()


def test_a_server_that_does_not_speak_http_is_reported(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            with suppress(OSError):  # the listener is closed
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


def test_a_response_above_the_size_limit_is_refused() -> None:
    body = bytearray()
    extend("http://h", body, b"x" * 2**20, most=2**20)
    with pytest.raises(AnswerError, match="the response has over 1 MiB, the limit of the client"):
        extend("http://h", body, b"x", most=2**20)
