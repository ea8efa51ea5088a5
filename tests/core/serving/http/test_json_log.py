"""The event log: one thread writes, whoever asks for it first."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Iterator

import pytest

from onetrunk.core.serving.http.json_log import EventLog


@pytest.fixture
def often() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def writers() -> int:
    return sum(thread.name == "onetrunk-log" for thread in threading.enumerate())


@pytest.mark.usefixtures("often")
def test_events_of_many_threads_start_one_writer() -> None:
    rounds, before = 20, writers()
    for _ in range(rounds):
        stream = io.StringIO()
        log, together = EventLog(stream), threading.Barrier(8)

        def write(log: EventLog = log, together: threading.Barrier = together) -> None:
            together.wait()
            log.write("hello")

        threads = [threading.Thread(target=write) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        log.flush()
        assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["hello"] * 8
    assert writers() - before == rounds
