"""Requests to an engine, and an engine whose device a test can block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from onetrunk.core import OneTrunk
from onetrunk.core.serving.engine.engine import Engine
from onetrunk.core.serving.engine.errors import OverTime
from onetrunk.core.serving.engine.events import EventSink
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import Result, TextRequest

TASKS = ("ner", "sentiment", "intent")
TEXTS = ("good film", "Ada in London", "", "🙂 東京", "word " * 40)


def answers(engine: Engine, *inputs: tuple[str, tuple[str, ...]]) -> list[Result]:
    return asyncio.run(engine.answer([TextRequest(*each) for each in inputs]))


class Gate(EventSink):
    """Blocks the device thread after each batch until `open` is set. ran: batches computed."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.ran = 0

    def batch(self, *_: Any) -> None:
        self.ran += 1
        self.open.wait(20)


def with_busy_device(
    trunk: OneTrunk, scenario: Callable[[Engine, Gate], Awaitable[None]], **limits: Any
) -> None:
    """Run a scenario on an engine whose device thread is blocked until the scenario sets `gate.open`."""
    gate = Gate()
    engine = Engine(trunk, Limits(**limits), gate)

    async def run() -> None:
        first = asyncio.create_task(engine.answer([TextRequest("the first", ("ner",))]))
        while not gate.ran:
            await asyncio.sleep(0.005)
        try:
            await scenario(engine, gate)
        finally:
            gate.open.set()
            with suppress(OverTime):  # it would hide an error of the scenario
                await first

    try:
        asyncio.run(run())
    finally:
        engine.close()
