"""Requests in the queue: limits, waiting, time limits, cancellation and draining."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from onetrunk.core import OneTrunk
from onetrunk.core.backbones.tokenization import Encoded, TextEncoder
from onetrunk.core.serving.engine.engine import Engine
from onetrunk.core.serving.engine.errors import OverTime, QueueFull, ShuttingDown
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import TextRequest
from tests.core.serving.engine.scenarios import TEXTS, Gate, with_busy_device


def test_a_cancelled_request_leaves_the_queue(trunk: OneTrunk) -> None:
    async def scenario(engine: Engine, gate: Gate) -> None:
        task = asyncio.create_task(engine.answer([TextRequest("never mind", ("ner", "intent"))] * 3))
        while engine.status().waiting_texts < 3:
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert engine.status().waiting_texts == 0
        gate.open.set()
        await engine.drain()
        assert engine.status().waiting_tokens == 0

    with_busy_device(trunk, scenario)
    assert all(post.loaded.users == 1 for post in trunk.registry.served.values())


def test_a_request_over_its_time_limit_fails_and_leaves_the_queue(trunk: OneTrunk) -> None:
    async def scenario(engine: Engine, _: Gate) -> None:
        with pytest.raises(OverTime, match=r"took over 0\.2 s and was dropped; try again in \d+ s"):
            await engine.answer([TextRequest("too late", ("intent",))])
        assert engine.status().waiting_texts == 0

    with_busy_device(trunk, scenario, request_seconds=0.2)


def test_over_the_limit_a_request_is_refused_unless_it_may_wait(trunk: OneTrunk) -> None:
    async def scenario(engine: Engine, gate: Gate) -> None:
        full = asyncio.create_task(engine.answer([TextRequest("word " * 30, ("ner",))]))
        while engine.status().waiting_texts < 1:
            await asyncio.sleep(0.005)
        assert engine.status().state == "overloaded"
        with pytest.raises(
            QueueFull, match=r"\d+ tokens wait, the limit is 20; try again in \d+ s"
        ) as caught:
            await engine.answer([TextRequest("one more", ("ner",))])
        assert caught.value.retry_after >= 1
        patient = asyncio.create_task(engine.answer([TextRequest("one more", ("ner",))], wait=True))
        await asyncio.sleep(0.05)
        assert not patient.done()
        gate.open.set()
        assert isinstance((await patient)[0], list)
        await full

    with_busy_device(trunk, scenario, queue_tokens=20)


class SlowEncoder:
    """An encoder whose `tokenise` blocks until `go_on` is set. asked, arranged: calls of the two methods."""

    def __init__(self, own: TextEncoder) -> None:
        self._own = own
        self.asked = self.arranged = 0
        self.go_on = threading.Event()

    def tokenise(self, texts: Sequence[str]) -> list[Any]:
        self.asked += 1
        self.go_on.wait(20)
        return self._own.tokenise(texts)

    def arrange(self, *args: Any, **options: Any) -> Encoded:
        self.arranged += 1
        return self._own.arrange(*args, **options)


def test_capacity_freed_during_tokenisation_goes_to_a_waiting_request(trunk: OneTrunk) -> None:
    trunk.encoder = slow = SlowEncoder(trunk.encoder)  # type: ignore[assignment]
    engine = Engine(trunk, Limits(queue_tokens=5))

    async def scenario() -> None:
        gone = asyncio.create_task(engine.answer([TextRequest("word " * 30, ("ner",))]))
        while not slow.asked:
            await asyncio.sleep(0.005)
        patient = asyncio.create_task(engine.answer([TextRequest("one more", ("ner",))], wait=True))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.wait([gone])
        await asyncio.sleep(0.05)  # the waiting request has found no capacity
        slow.go_on.set()
        async with asyncio.timeout(10):
            assert isinstance((await patient)[0], list)
            await engine.drain()
        assert engine.status().waiting_tokens == 0

    asyncio.run(scenario())
    engine.close()


def test_a_cancelled_large_request_is_not_tokenised_to_its_end(trunk: OneTrunk) -> None:
    trunk.encoder = slow = SlowEncoder(trunk.encoder)  # type: ignore[assignment]
    engine = Engine(trunk, Limits(queue_tokens=10**6))

    async def scenario() -> None:
        gone = asyncio.create_task(engine.answer([TextRequest("word " * 6000, ("ner",))] * 40))
        while not slow.asked:
            await asyncio.sleep(0.005)
        gone.cancel()
        await asyncio.wait([gone])
        slow.go_on.set()
        while engine.status().waiting_tokens:
            await asyncio.sleep(0.005)

    asyncio.run(scenario())
    engine.close()
    assert (slow.asked, slow.arranged) == (1, 0)


def test_draining_answers_accepted_requests_and_refuses_new_ones(trunk: OneTrunk) -> None:
    async def scenario(engine: Engine, gate: Gate) -> None:
        accepted = [asyncio.create_task(engine.answer([TextRequest(text, ("ner",))])) for text in TEXTS]
        await asyncio.sleep(0.02)
        draining = asyncio.create_task(engine.drain())
        await asyncio.sleep(0)
        with pytest.raises(ShuttingDown, match="shutting down; try again in 5 s"):
            await engine.answer([TextRequest("more", ("ner",))])
        gate.open.set()
        await draining
        assert all(task.done() and isinstance(task.result()[0], list) for task in accepted)

    with_busy_device(trunk, scenario)
