"""`predict_stream`: requests in chunks, answers in order, backpressure."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator

from hypothesis import given
from hypothesis import strategies as st

from onetrunk.core.client import AsyncClient, Client, Prediction
from onetrunk.core.client.requests import Chunks
from tests.core.client.answers import Ask, echo, labels, mood, result
from tests.peer import LINES, Peer, Said


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


def test_a_service_that_answers_each_line_before_it_reads_the_next_causes_no_deadlock(ask: Ask) -> None:
    texts = [f"a text of some length, number {number}" for number in range(512)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_answer_eagerly, args=(listener, 100_000))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert labels(ask("predict_stream", texts, ["mood"], url=url)) == texts
        thread.join()


def _answer_eagerly(listener: socket.socket, padding: int) -> None:
    """Serve one request; write each answer, megabytes in all, before reading the next line."""
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
        assert len(sent) < 32  # about what the two sockets buffer
        assert len(list(answers)) == 63


def test_closing_a_stream_closes_its_connection(peer: Peer) -> None:
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
