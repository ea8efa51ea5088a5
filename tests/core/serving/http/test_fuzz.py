"""Thousands of invalid requests to a real process: no server error, no leak, and it still serves."""

from __future__ import annotations

import json
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.core.serving.conftest import ask
from tests.core.serving.http.test_prometheus import samples
from tests.core.serving.process import Process

pytestmark = pytest.mark.slow

EXAMPLES = 200  # of each operation, that fit the document and that do not
RAW = 4000
LOADS = ("remote-unavailable",)
"""What a load of a made-up repo comes to where the Hub cannot be reached."""
GROWTH = 48 * 2**20
"""Bytes that the process may grow by: the allocator's, and the parts of torch that load late."""
BODY = json.dumps({"inputs": [ask("the film is good", "mood", "names")]}).encode()
HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture(scope="module")
def process(stock: Path, backbone: Path) -> Iterator[Process]:
    running = Process("--backbone", backbone, store=stock)
    for _ in range(200):  # so that what loads late has been loaded
        running.client.post("/v1/predict", content=BODY, headers={"Content-Type": "application/json"})
    yield running
    code, _ = running.end()
    assert code == 0


@pytest.fixture
def watched(process: Process) -> Iterator[Process]:
    """The process; when the test is over nothing of it is left behind."""
    watch = psutil.Process(process.process.pid)
    memory, files, threads = watch.memory_info().rss, watch.num_fds(), watch.num_threads()
    yield process
    end = time.monotonic() + 40
    while watch.num_fds() > files + 2 and time.monotonic() < end:
        time.sleep(0.2)
    found = samples(process.client.get("/metrics").text)
    assert found["onetrunk_open_requests", ""] == 1  # this one
    assert found["onetrunk_queue_tokens", ""] == 0
    assert watch.num_fds() <= files + 2
    assert watch.num_threads() <= threads + 8  # the loop's pool
    assert watch.memory_info().rss - memory < GROWTH
    answer = process.client.post("/v1/predict", content=BODY, headers={"Content-Type": "application/json"})
    assert [each["version"] for each in answer.json()["results"][0]["answers"]] == ["mood@2", "names@1"]


def no_fault(status: int, body: str, *expected: str) -> bool:
    """Tell whether a response tells of no fault. expected: kinds of 503 that the test can bring about."""
    return 200 <= status < 500 or any(status == 503 and f'"/problems/{kind}"' in body for kind in expected)


@schemathesis.serializer("application/x-ndjson")
def as_line(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, default=repr).encode() + b"\n"


CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=str)
def test_requests_made_from_the_document_are_answered_as_it_says(
    watched: Process, mode: schemathesis.GenerationMode
) -> None:
    schema = schemathesis.openapi.from_dict(watched.client.get("/openapi.json").json())
    sent: Counter[str] = Counter()
    for result in schema.get_all_operations():
        operation = result.ok()  # type: ignore[union-attr]  # the document is sound

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            phases=[Phase.generate],
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(mode))
        def send(case: Any) -> None:
            answer = case.call(base_url=watched.url, timeout=30)
            sent[case.operation.label] += 1
            assert no_fault(answer.status_code, answer.text, *LOADS), (case.as_curl_command(), answer.text)
            if answer.status_code not in (404, 405):  # a path may have come to mean another
                case.validate_response(answer, checks=CHECKS)

        with suppress(Unsatisfiable):  # what takes nothing cannot be given anything wrong
            send()
    assert sum(sent.values()) >= 1000


class Fuzzer:
    """Makes bytes that are nearly a request, from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._kinds: list[Callable[[], bytes]] = [
            self.noise,
            self.flipped,
            self.cut,
            self.repeated,
            self.json,
            self.headers,
            self.chunks,
            self.line,
            self.lengths,
        ]

    def next(self) -> bytes:
        return self._random.choice(self._kinds)()

    def noise(self) -> bytes:
        return self._random.randbytes(self._random.randint(1, 2000))

    def flipped(self) -> bytes:
        """A request with some bytes changed."""
        data = bytearray(WHOLE)
        for _ in range(self._random.randint(1, 8)):
            data[self._random.randrange(len(data))] = self._random.randrange(256)
        return bytes(data)

    def cut(self) -> bytes:
        """The beginning of a request."""
        return WHOLE[: self._random.randrange(len(WHOLE))]

    def repeated(self) -> bytes:
        """Pieces of requests, one behind the other."""
        places = [self._random.randrange(len(WHOLE)) for _ in range(8)]
        return b"".join(WHOLE[min(pair) : max(pair)] for pair in pairwise(places))

    def json(self) -> bytes:
        """A sound request with a body that is not."""
        body = bytearray(BODY)
        for _ in range(self._random.randint(1, 5)):
            at = self._random.randrange(len(body))
            piece = self._random.choice(
                [b"{", b"[" * 500, b'"', b"\\u0000", b"\\ud800", b"1e999", b",", b"NaN"]
            )
            body[at : at + self._random.randint(0, 6)] = piece
        return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def headers(self) -> bytes:
        """A request with odd headers, some of them huge."""
        lines = [
            self._random.choice(
                [b"X", b"Content-Length", b"Transfer-Encoding", b"Host", b"Authorization", b"\x00"]
            )
            + self._random.choice([b": ", b":", b" : ", b""])
            + self._random.choice(
                [b"x" * self._random.choice([0, 10, 100_000]), b"\xff", b"-1", b"chunked", b"\r"]
            )
            for _ in range(self._random.randint(1, 20))
        ]
        return HEAD + b"\r\n".join(lines) + b"\r\n\r\n" + BODY

    def chunks(self) -> bytes:
        """A body in chunks that are not."""
        sizes = [b"5", b"0", b"-1", b"ffffffffffffffffff", b"zz", b"", b"5;x=" + b"y" * 5000]
        parts = [self._random.choice(sizes) + b"\r\n" + self._random.randbytes(5) + b"\r\n" for _ in range(6)]
        return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(parts)

    def line(self) -> bytes:
        """An odd first line."""
        method = self._random.choice(
            [b"GET", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"HEAD", b"TRACE", b"get"]
        )
        path = self._random.choice(
            [
                b"/",
                b"*",
                b"/v1/adapters/" + b"%2e" * 40,
                b"/" + b"a" * 70_000,
                b"//",
                b"/%00",
                b"/\xff",
                b"http://x/",
            ]
        )
        version = self._random.choice([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"", b"HTTP/2.0"])
        return method + b" " + path + b" " + version + b"\r\nHost: localhost\r\n\r\n"

    def lengths(self) -> bytes:
        """A length that is not that of the body."""
        length = self._random.choice(
            [b"0", b"1", b"99999", b"999999999999999999999", b"-5", b"1e3", b"0x10", b" "]
        )
        return HEAD + b"Content-Length: " + length + b"\r\n\r\n" + BODY


def test_bytes_close_to_a_request_cause_no_server_error(watched: Process) -> None:
    fuzzer = Fuzzer(5)
    statuses: Counter[int] = Counter()
    made = [fuzzer.next() for _ in range(RAW)]
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(partial(exchanged, watched.port), made, cycle([True, False, False, False, False]))
        for sent, found in zip(made, answers, strict=True):
            statuses.update(found)
            assert all(no_fault(status, "") for status in found), sent[:500]
    assert statuses[400] > 100
    assert statuses[200] > 5


def exchanged(port: int, sent: bytes, half_close: bool) -> list[int]:
    """Send bytes and nothing more; return the status of each response that comes soon."""
    found = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, suppress(OSError):
        connection.sendall(sent)  # fails where the service has ended it, having heard enough
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        connection.settimeout(0.1)
        while part := connection.recv(65536):
            found += part
    starts = [line for line in found.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    return [int(line[9:12]) for line in starts]


def test_slow_clients_are_disconnected_and_do_not_block_others(watched: Process) -> None:
    """Half a head, half a body, and answers that nobody reads, while others are answered as quickly as ever."""
    halves = [
        b"",
        b"GET / HT",
        HEAD,
        HEAD + b"Content-Length: 99\r\n\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n",
    ]
    slow = [socket.create_connection(("127.0.0.1", watched.port), timeout=60) for _ in range(200)]
    for number, connection in enumerate(slow):
        connection.sendall(halves[number % len(halves)])
    greedy = [socket.create_connection(("127.0.0.1", watched.port), timeout=60) for _ in range(5)]
    for connection in greedy:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        try:
            while True:
                connection.send(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        except BlockingIOError:
            pass
    began = time.monotonic()
    for _ in range(50):
        with httpx2.Client(base_url=watched.url, trust_env=False) as client:
            assert client.post("/v1/predict", json={"inputs": [ask()]}).status_code == 200
    assert time.monotonic() - began < 20
    for connection in slow:
        while connection.recv(65536):  # until the service ends it, after half a minute at most
            pass
        connection.close()
    for connection in greedy:
        connection.close()


def test_a_client_that_pipelines_many_requests_takes_no_memory(watched: Process) -> None:
    """100,000 requests a second for some seconds, of which a few thousand can be answered."""
    requests = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000
    watch, most = psutil.Process(watched.process.pid), 0
    before = watch.memory_info().rss
    with socket.create_connection(("127.0.0.1", watched.port), timeout=20) as connection:
        connection.setblocking(False)
        end = time.monotonic() + 8
        while time.monotonic() < end:
            with suppress(BlockingIOError):
                connection.send(requests)
            with suppress(BlockingIOError):
                connection.recv(2**20)
            most = max(most, watch.memory_info().rss)
    assert most - before < GROWTH
