"""The event log: one thread writes, and exceptions are logged without private data."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from onetrunk.core.errors import UsageError
from onetrunk.core.serving.http.json_log import EventLog
from tests.core.serving.conftest import Gated, ask


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


@pytest.fixture
def captured() -> Iterator[io.StringIO]:
    """What this process logs by `logging`, as the service writes it."""
    stream = io.StringIO()
    names = ("", "uvicorn", "onetrunk")
    before = [(logging.getLogger(each), logging.getLogger(each).handlers[:]) for each in names]
    levels = [logging.getLogger(each).level for each in names]
    log = EventLog(stream)
    log.capture_logging()
    yield stream
    log.flush()
    for (logger, handlers), level in zip(before, levels, strict=True):
        logger.handlers = handlers
        logger.setLevel(level)
    logging.captureWarnings(False)


def test_an_exception_of_a_plugin_is_logged_without_its_message(
    gated: Callable[..., Gated], captured: io.StringIO
) -> None:
    held = gated()
    assert held.service.predict(ask("bomb secret-word")).status_code == 500
    assert Gated.until(lambda: "failed to answer a text" in captured.getvalue())
    (event,) = [json.loads(line) for line in captured.getvalue().splitlines()]
    assert "secret-word" not in captured.getvalue()
    assert event["traceback"].startswith("ValueError\n")
    assert event["traceback"].rpartition(":")[2] == "decode"


def test_an_exception_of_our_own_is_logged_with_its_message(captured: io.StringIO) -> None:
    try:
        raise UsageError("say something else") from KeyError("secret-word")
    except UsageError:
        logging.getLogger("asyncio").exception("it failed\nwith secret-word")
    assert Gated.until(lambda: "it failed" in captured.getvalue())
    (event,) = [json.loads(line) for line in captured.getvalue().splitlines()]
    assert event["message"] == "it failed"
    assert "UsageError: say something else\n" in event["traceback"]
    assert event["traceback"].endswith("\nKeyError")
