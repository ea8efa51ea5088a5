"""Limits on bodies, inputs, texts, time and the queue; slow clients and clients that disconnect."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import httpx2
import pytest

from tests.core.serving.conftest import Gated, Running, Serve, ask

Make = Callable[..., Gated]
HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def connect(service: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=30)


def raw(service: Running, data: bytes) -> bytes:
    """Send bytes, and return all that comes back until the server ends the connection."""
    with closing(connect(service)) as connection:
        connection.sendall(data)
        return rest(connection)


def rest(connection: socket.socket) -> bytes:
    found = b""
    while part := connection.recv(65536):
        found += part
    return found


@pytest.fixture(scope="module")
def strict(serve: Serve) -> Iterator[Running]:
    """A service with small bounds."""
    with serve(body_bytes=1000, inputs=3, characters=50, adapters=2, request_seconds=0.5) as service:
        yield service


def test_a_body_that_announces_too_much_is_not_read(strict: Running) -> None:
    answer = raw(strict, HEAD + b"Content-Length: 999999999999\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"most":1000' in answer


def test_expect_100_continue_with_too_large_a_body_is_refused_and_closes_the_connection(
    strict: Running,
) -> None:
    answer = raw(strict, HEAD + b"Content-Length: 5000\r\nExpect: 100-continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_expect_100_continue_is_answered_with_100(strict: Running) -> None:
    body = json.dumps({"inputs": [ask()]}).encode()
    head = HEAD + b"Connection: close\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body)
    with closing(connect(strict)) as connection:
        connection.sendall(head)
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert rest(connection).startswith(b"HTTP/1.1 200 ")


def test_a_body_of_unknown_length_is_read_up_to_the_limit_only(strict: Running) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(400):
            sent += 2**16
            yield b" " * 2**16

    answer = strict.client.post(
        "/v1/predict", content=endless(), headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/body-too-large")


@pytest.mark.parametrize("size", [999, 1000, 1001])
@pytest.mark.parametrize("chunked", [False, True])
def test_the_limit_of_a_body_is_exact(strict: Running, size: int, chunked: bool) -> None:
    body = json.dumps({"inputs": [ask()]}).encode().ljust(size)
    answer = strict.client.post(
        "/v1/predict",
        content=iter([body]) if chunked else body,
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == (413 if size > 1000 else 200)


@pytest.mark.parametrize("piece", [b"[],", b"{},", b"1,", b'"",', b'"\\\\",', b'"[",'])
def test_a_body_of_millions_of_values_is_refused_before_it_is_decoded(service: Running, piece: bytes) -> None:
    body = b'{"inputs":[' + piece * (8_000_000 // len(piece)) + b"1]}"
    answer = service.client.post("/v1/predict", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/body-too-large")
    assert "values, the limit for its inputs" in answer.json()["detail"]


@pytest.mark.parametrize("text", ["[" * 32_000, "{,[" * 10_000, '",[\\' * 8_000, "\\" * 32_000])
def test_a_text_may_have_any_number_of_brackets_and_commas(service: Running, text: str) -> None:
    body = json.dumps({"inputs": [ask(text, "nobody")] * 100 + [ask()]})
    answer = service.client.post("/v1/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    assert "answers" in answer.json()["results"][-1]


def test_too_many_inputs_are_refused_as_a_whole(strict: Running) -> None:
    problem = strict.predict(*[ask()] * 4).json()
    assert (problem["status"], problem["type"]) == (413, "/problems/too-many-inputs")
    assert (problem["count"], problem["most"]) == (4, 3)


def test_a_text_that_is_too_long_fails_alone(strict: Running) -> None:
    good, bad = strict.predict(ask("x" * 50), ask("x" * 51)).json()["results"]
    assert good["answers"]
    assert (bad["error"]["type"], bad["error"]["characters"], bad["error"]["most"]) == (
        "/problems/text-too-long",
        51,
        50,
    )


def test_a_body_that_does_not_arrive_in_time_is_refused(strict: Running) -> None:
    began = time.monotonic()
    answer = raw(strict, HEAD + b"Content-Length: 100\r\n\r\n" + b'{"inputs"')
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"/problems/body-too-slow" in answer
    assert 0.4 < time.monotonic() - began < 5


def test_a_body_that_arrives_byte_by_byte_is_refused_after_the_same_time(strict: Running) -> None:
    with closing(connect(strict)) as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n")
        with suppress(ConnectionError):
            for _ in range(90):
                connection.sendall(b" ")
                time.sleep(0.1)
    assert strict.events("request")[-1]["status"] == 408


def test_endless_headers_are_refused(strict: Running) -> None:
    with closing(connect(strict)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        try:
            for number in range(200):
                connection.sendall(b"X-%d: " % number + b"x" * 1000 + b"\r\n")
            answer = rest(connection)
        except ConnectionError:  # it had been closed already
            answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")
    assert strict.client.get("/healthz").status_code == 200


def test_one_endless_header_is_refused(strict: Running) -> None:
    with closing(connect(strict)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        sent = 0
        with suppress(ConnectionError):
            for sent in range(1000):  # noqa: B007
                connection.sendall(b"x" * 10_000)
                time.sleep(0.001)
    assert sent < 500


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=repr,
)
def test_what_is_not_http_is_answered_with_400_and_the_end_of_the_connection(
    service: Running, sent: bytes
) -> None:
    head, _, _ = raw(service, sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in head


def test_pipelined_requests_are_all_answered(service: Running) -> None:
    get = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = get.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert raw(service, get * 500 + last).count(b"HTTP/1.1 200 OK") == 501


def test_a_full_queue_is_answered_with_429_and_retry_after(gated: Make) -> None:
    held = gated(queue_tokens=8, batch_tokens=8)
    first = held.hold()
    waiting = [held.begin(ask(f"good {number}")) for number in range(4)]
    assert held.until(lambda: held.service.engine.status().state == "overloaded")
    answer = held.service.predict(ask("good"))
    assert (answer.status_code, answer.json()["type"]) == (429, "/problems/queue-full")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    ready = held.service.client.get("/readyz")
    assert (ready.status_code, ready.json()) == (503, {"status": "overloaded"})
    held.gate.opened.set()
    assert first.result(30).status_code == 200
    assert {each.result(30).status_code for each in waiting} <= {200, 429}
    assert held.until(lambda: held.service.client.get("/readyz").status_code == 200)


def test_a_request_over_its_time_limit_gets_a_problem_and_leaves_the_queue(gated: Make) -> None:
    held = gated(request_seconds=0.3)
    held.hold()
    answer = held.service.predict(ask("good"))
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/timeout")
    assert "Retry-After" in answer.headers
    assert held.queued(0)


def test_the_texts_of_a_disconnected_client_leave_the_queue(gated: Make) -> None:
    held = gated()
    held.hold()
    body = json.dumps({"inputs": [ask("good"), ask("bad")]}).encode()
    connections = [connect(held.service) for _ in range(5)]
    for connection in connections:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert held.queued(10)
    for connection in connections:
        connection.close()
    assert held.queued(0)
    assert [event["status"] for event in held.service.events("request")] == [499] * 5


def test_a_client_that_disconnects_within_its_body_leaves_nothing_behind(service: Running) -> None:
    before = len(service.events("request"))
    with closing(connect(service)) as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
    assert Gated.until(lambda: len(service.events("request")) > before)
    assert service.events("request")[-1]["status"] == 499


def test_a_shutdown_answers_accepted_requests_and_refuses_new_ones(gated: Make) -> None:
    held = gated()
    first = held.hold()
    waiting = [held.begin(ask("good")) for _ in range(5)]
    assert held.queued(5)
    with httpx2.Client(base_url=held.service.url, trust_env=False) as client:
        assert client.get("/readyz").status_code == 200
        held.service.server.should_exit = True
        assert held.until(lambda: held.service.app.service.draining)
        refused: Any = client.post("/v1/predict", json={"inputs": [ask("good")]})
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/shutting-down")
    assert (refused.headers["Connection"], int(refused.headers["Retry-After"])) == ("close", 5)
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(held.service.url + "/healthz", trust_env=False)
    held.gate.opened.set()
    assert [each.result(30).status_code for each in (first, *waiting)] == [200] * 6
