"""The stream: one line for each line, in order and at once, with a bounded number of lines under way."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest

from onetrunk.core.serving.http.stream import GROUP_LINES, MAX_GROUPS
from tests.core.serving.conftest import Gated, Running, Serve, ask

NDJSON = {"Content-Type": "application/x-ndjson"}
PATH = "/v1/predict/stream"
HEAD = b"POST /v1/predict/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"


def lines(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def stream(service: Running, body: Any) -> list[dict[str, Any]]:
    """Send a body, and return the lines that come back."""
    answer = service.client.post(PATH, content=body, headers=NDJSON)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
    return [json.loads(line) for line in answer.text.splitlines()]


class Duplex:
    """A stream on a connection of its own, that is written and read at the same time."""

    def __init__(self, service: Running) -> None:
        self.socket = socket.create_connection(("127.0.0.1", service.port), timeout=30)
        self.socket.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        self._file = self.socket.makefile("rb")
        self._began = False

    def send(self, *values: Any) -> None:
        data = lines(*values)
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self) -> None:
        self.socket.sendall(b"0\r\n\r\n")

    def answers(self) -> Iterator[dict[str, Any]]:
        """Yield the lines that come back, one by one."""
        if not self._began:
            self._began = True
            while self._file.readline() not in (b"\r\n", b""):
                pass
        while size := int(self._file.readline() or b"0", 16):
            chunk = self._file.read(size + 2)
            yield from (json.loads(line) for line in chunk.splitlines() if line)

    def close(self) -> None:
        self._file.close()
        self.socket.close()


def test_each_line_has_its_answer_in_order_with_its_id(service: Running) -> None:
    texts = [f"the film number {number} is {'good' if number % 3 else 'bad'}" for number in range(200)]
    found = stream(service, lines(*({**ask(text, "mood", "names"), "id": i} for i, text in enumerate(texts))))
    assert [each["id"] for each in found] == list(range(200))
    for start in range(0, 200, 50):
        some = service.predict(*(ask(text, "mood", "names") for text in texts[start : start + 50]))
        for one, other in zip(found[start:], some.json()["results"], strict=False):
            assert [each["version"] for each in one["answers"]] == ["mood@2", "names@1"]
            label, score = (one["answers"][0][key] for key in ("label", "score"))
            assert label == other["answers"][0]["label"]
            assert score == pytest.approx(other["answers"][0]["score"], abs=1e-4)


@pytest.mark.parametrize("key", ["a", 7, 1.5, "ü", 0, ""])
def test_the_result_of_a_line_has_its_id(service: Running, key: object) -> None:
    assert stream(service, lines({**ask(), "id": key}))[0]["id"] == key


def test_a_bad_line_has_its_problem_and_its_number_and_the_stream_goes_on(service: Running) -> None:
    body = (
        lines(ask()) + b"{broken\n\n\xff\n" + lines({**ask("good", "nobody"), "id": 5}, 3) + lines(ask("bad"))
    )
    found = stream(service, body)
    assert ["answers" in each for each in found] == [True, False, False, False, False, True]
    problems = [(each["line"], each["error"]["status"]) for each in found if "error" in each]
    assert problems == [(2, 400), (4, 400), (5, 404), (6, 422)]
    assert found[3]["id"] == 5


def test_an_id_of_another_type_is_a_problem(service: Running) -> None:
    assert stream(service, lines({**ask(), "id": [1]}))[0]["error"]["status"] == 422


def test_empty_lines_get_no_answer(service: Running) -> None:
    assert stream(service, b"") == []
    assert stream(service, b"\n\r\n  \n") == []


def test_the_last_line_needs_no_newline(service: Running) -> None:
    assert len(stream(service, lines(ask(), ask()).rstrip())) == 2


def test_lines_may_be_split_anywhere_between_parts_of_the_body(service: Running) -> None:
    body = lines(*(ask(f"good film {number} ü") for number in range(8)))
    parts = (body[start : start + 7] for start in range(0, len(body), 7))
    assert len(stream(service, parts)) == 8


def test_a_line_that_is_too_long_is_skipped(serve: Serve) -> None:
    with serve(body_bytes=1000) as service:
        found = stream(service, iter([lines(ask()), *[b"x" * 10_000] * 50, b"\n", lines(ask("bad"))]))
    assert [each.get("error", {}).get("type") for each in found] == [None, "/problems/body-too-large", None]
    assert found[1]["line"] == 2


def test_a_line_may_be_as_long_as_the_longest_text_written_in_escapes(serve: Serve) -> None:
    with serve(characters=5000) as service:
        escaped = json.dumps(ask("🙂" * 5000)).encode() + b"\n"
        assert len(escaped) > 60_000
        first, second = stream(service, escaped * 2 + escaped.replace(b'{"', b"{" + b" " * 200_000 + b'"'))[
            1:
        ]
    assert "answers" in first
    assert second["error"]["type"] == "/problems/body-too-large"


def test_a_line_of_deeply_nested_lists_does_not_block_other_requests(service: Running) -> None:
    heavy = b"[" + b"[[],[]]," * 50_000 + b"[]]\n"
    began = time.perf_counter()
    first, second = stream(service, heavy + lines(ask()))
    assert time.perf_counter() - began < 5
    assert (first["line"], first["error"]["type"]) == (1, "/problems/body-too-large")
    assert first["error"]["detail"].startswith("the JSON has over ")
    assert "answers" in second


def test_an_answer_comes_before_the_next_line_is_sent(service: Running) -> None:
    with closing(Duplex(service)) as duplex:
        answers = duplex.answers()
        for number in range(3):
            duplex.send({**ask("good film"), "id": number})
            assert next(answers)["id"] == number
        duplex.end()
        assert list(answers) == []


def test_reading_stops_while_the_maximum_of_groups_is_under_way(
    gated: Callable[..., Gated],
) -> None:
    held = gated(queue_tokens=100_000)
    held.hold()
    with closing(Duplex(held.service)) as duplex:
        duplex.socket.settimeout(0.5)
        sent = 0
        with suppress(TimeoutError):  # the connection is full
            while sent < 100_000:
                duplex.send(*[ask("good film " + "x " * 500)] * 8)
                sent += 8
        time.sleep(0.2)
        under_way = held.service.engine.status().waiting_texts
        assert under_way <= (MAX_GROUPS + 2) * GROUP_LINES < sent < 100_000
    held.gate.opened.set()
    assert held.queued(0)


def test_a_full_queue_makes_a_stream_wait_and_not_fail(serve: Serve) -> None:
    with serve(queue_tokens=16, batch_tokens=16) as service:
        found = stream(service, lines(*[ask("the film is good")] * 300))
    assert len(found) == 300
    assert all("answers" in each for each in found)


def test_a_stream_whose_client_disconnects_leaves_nothing_behind(gated: Callable[..., Gated]) -> None:
    held = gated()
    held.hold()
    with closing(Duplex(held.service)) as duplex:
        duplex.send(*[ask("good")] * 50)
        assert held.queued(50)
    assert held.queued(0)
    assert held.until(lambda: bool(held.service.events("request")))
    assert held.service.events("request")[0]["status"] == 499
    assert held.service.app.service.stream_readers == set()


def test_at_shutdown_the_last_line_of_a_stream_is_a_problem_after_all_answers(
    gated: Callable[..., Gated],
) -> None:
    held = gated()
    held.hold()
    with closing(Duplex(held.service)) as duplex:
        duplex.send(*[ask("good")] * 3)
        assert held.queued(3)
        held.service.server.should_exit = True
        assert held.until(lambda: held.service.app.service.draining)
        held.gate.opened.set()
        *answered, last = duplex.answers()
    assert ["answers" in each for each in answered] == [True] * 3
    assert (last["line"], last["error"]["type"]) == (4, "/problems/shutting-down")


def test_at_shutdown_every_line_that_was_read_is_answered(gated: Callable[..., Gated]) -> None:
    held = gated(queue_tokens=100_000)
    held.hold()
    with closing(Duplex(held.service)) as duplex:
        duplex.send(*[ask("good")] * 3000)
        assert held.until(lambda: held.service.engine.status().waiting_texts >= MAX_GROUPS * GROUP_LINES)
        held.service.server.should_exit = True
        assert held.until(lambda: held.service.app.service.draining)
        held.gate.opened.set()
        *answered, last = duplex.answers()
    assert all("answers" in each for each in answered)
    assert MAX_GROUPS * GROUP_LINES <= len(answered) < 3000
    assert (last["line"], last["error"]["type"]) == (len(answered) + 1, "/problems/shutting-down")


def test_a_stream_whose_reading_has_stopped_ends_when_its_client_disconnects(
    gated: Callable[..., Gated],
) -> None:
    held = gated(queue_tokens=100_000)
    held.hold()
    with closing(Duplex(held.service)) as duplex:
        duplex.send(*[ask("good")] * 300)
        assert held.until(lambda: held.service.engine.status().waiting_texts >= MAX_GROUPS * GROUP_LINES)
    assert held.queued(0)
    assert held.until(lambda: bool(held.service.events("request")))
    assert held.service.events("request")[0]["status"] == 499


def test_a_stream_without_data_for_too_long_ends(serve: Serve) -> None:
    with serve(request_seconds=0.3) as service, closing(Duplex(service)) as duplex:
        duplex.send(ask())
        first, last = duplex.answers()
    assert "answers" in first
    assert (last["error"]["type"], last["error"]["status"]) == ("/problems/body-too-slow", 408)


def test_the_log_counts_the_lines(service: Running) -> None:
    answer = service.client.post(PATH, content=lines(*[ask()] * 40), headers=NDJSON)
    (event,) = [each for each in service.events("request") if each["id"] == answer.headers["X-Request-Id"]]
    assert (event["route"], event["inputs"], event["status"]) == (PATH, 40, 200)
