"""Texts that are too long for one batch: they are computed in parts, and other texts wait for a part only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetrunk.core import OneTrunk
from onetrunk.core.serving.engine.engine import Engine
from onetrunk.core.serving.engine.errors import QueueFull, TextTooSlow
from onetrunk.core.serving.engine.events import EventSink
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import Result, TextRequest
from tests.core.serving.engine.scenarios import TASKS, answers
from tests.core.serving.engine.test_engine import alike, records

LONG = "Ada in London " * 400
SHORT = TextRequest("good film", ("intent",), "short")


class Batches(EventSink):
    """Records the tokens of each batch. pause: seconds that each batch takes longer."""

    def __init__(self, pause: float = 0.0) -> None:
        self.tokens: list[int] = []
        self._pause = pause

    def batch(self, tokens: int, *_: Any) -> None:
        self.tokens.append(tokens)
        time.sleep(self._pause)


@contextmanager
def engine_of(trunk: OneTrunk, events: EventSink | None = None, **limits: Any) -> Iterator[Engine]:
    # The assumed throughput, 4 batches in queue_seconds, must be enough for LONG.
    defaults = {"batch_tokens": 64, "queue_seconds": 0.01}
    with closing(Engine(trunk, Limits(**{**defaults, **limits}), events)) as engine:
        yield engine


def is_idle(trunk: OneTrunk, engine: Engine) -> bool:
    """Return whether nothing is queued, and no version is held for a request."""
    users = [own.loaded.users for own in trunk.registry.served.values()]
    return not engine.status().waiting_tokens and not engine.status().waiting_texts and set(users) == {1}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("batch_tokens", [1, 64, 1000])
def test_a_long_text_gets_the_answers_of_predict(trunk: OneTrunk, workers: int, batch_tokens: int) -> None:
    events = Batches()
    with engine_of(trunk, events, workers=workers, batch_tokens=batch_tokens) as engine:
        found, short = answers(engine, (LONG, TASKS), ("good film", TASKS))
        assert is_idle(trunk, engine)
    (expected,) = trunk.predict([LONG], TASKS)
    assert alike(records(found), [own.result for own in expected])
    assert len(records(short)) == 3
    windows = [len(ids) for ids in trunk.encoder.arrange(trunk.encoder.tokenise([LONG])[0]).windows]
    assert max(events.tokens) <= max(batch_tokens, *windows)


@settings(max_examples=20, deadline=None)
@given(texts=st.lists(st.integers(0, 200), min_size=1, max_size=4), budget=st.integers(1, 300))
def test_no_batch_exceeds_its_budget_unless_it_is_one_window(
    trunk_of_all: OneTrunk, texts: list[int], budget: int
) -> None:
    events = Batches()
    with engine_of(trunk_of_all, events, batch_tokens=budget) as engine:
        found = answers(engine, *(("word " * length, TASKS) for length in texts))
        assert is_idle(trunk_of_all, engine)
    assert all(isinstance(each, list) for each in found)
    window = trunk_of_all.encoder._size + 2
    assert max(events.tokens) <= max(window, budget + window)  # texts are tokenised after they are taken


@pytest.fixture(scope="module")
def trunk_of_all(bert: Any, store: Any) -> OneTrunk:
    trunk = OneTrunk(bert, store=store)
    for task in TASKS:
        trunk.load(task)
    return trunk


def test_a_short_text_is_answered_while_a_long_one_is_computed(trunk: OneTrunk) -> None:
    async def scenario(engine: Engine) -> None:
        long = asyncio.create_task(engine.answer([TextRequest(LONG, ("ner",), "long")]))
        while len(events.tokens) < 2:
            await asyncio.sleep(0.001)
        before = len(events.tokens)
        (answer,) = await engine.answer([SHORT])
        assert isinstance(answer, list)
        assert len(events.tokens) <= before + 3
        assert not long.done()
        assert isinstance((await long)[0], list)

    events = Batches(pause=0.01)
    with engine_of(trunk, events) as engine:
        asyncio.run(scenario(engine))


def test_a_short_text_of_the_same_client_and_adapter_does_not_wait_for_its_long_one(trunk: OneTrunk) -> None:
    async def scenario(engine: Engine) -> None:
        long = asyncio.create_task(engine.answer([TextRequest(LONG, ("intent",), "short")]))
        while len(events.tokens) < 2:
            await asyncio.sleep(0.001)
        await engine.answer([SHORT])
        assert not long.done()
        await long

    events = Batches(pause=0.01)
    with engine_of(trunk, events) as engine:
        asyncio.run(scenario(engine))


@pytest.mark.parametrize("workers", [1, 3])
def test_the_work_of_a_client_that_is_gone_ends_within_a_batch(trunk: OneTrunk, workers: int) -> None:
    async def scenario(engine: Engine) -> None:
        task = asyncio.create_task(engine.answer([TextRequest(LONG, ("ner", "intent"), "long")]))
        while len(events.tokens) < 3:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
        computed = len(events.tokens)
        assert engine.status().waiting_texts == 0
        await engine.drain()
        while engine.status().waiting_tokens:
            await asyncio.sleep(0.001)
        assert len(events.tokens) <= computed + workers
        assert is_idle(trunk, engine)

    events = Batches(pause=0.01)
    with engine_of(trunk, events, workers=workers) as engine:
        asyncio.run(scenario(engine))


def test_two_long_texts_shut_no_other_adapter_out(trunk: OneTrunk) -> None:
    async def scenario(engine: Engine) -> None:
        long = [
            asyncio.create_task(engine.answer([TextRequest(LONG, (name,), name)]))
            for name in ("ner", "sentiment")
        ]
        while len(events.tokens) < 3:
            await asyncio.sleep(0.001)
        for _ in range(20):  # QueueFull would be raised
            assert isinstance((await engine.answer([SHORT]))[0], list)
        assert not any(each.done() for each in long)
        await asyncio.gather(*long)

    events = Batches(pause=0.01)
    with engine_of(trunk, events) as engine:
        asyncio.run(scenario(engine))


def test_long_texts_beyond_their_share_of_the_time_limit_are_refused(trunk: OneTrunk) -> None:
    async def scenario(engine: Engine) -> None:
        asked = [engine.answer([TextRequest(LONG, ("ner",), str(number))]) for number in range(20)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        refused = [each for each in found if isinstance(each, QueueFull)]
        assert 0 < len(refused) < 20
        assert len(refused) + sum(isinstance(each, list) for each in found) == 20

    with engine_of(trunk, queue_tokens=3000) as engine:
        asyncio.run(scenario(engine))
        assert is_idle(trunk, engine)


def test_a_text_that_cannot_be_answered_in_time_even_alone_is_refused_as_too_long(trunk: OneTrunk) -> None:
    # Before the first measurement, 4 batches are assumed in queue_seconds: 64 * 4 / 60 * 30 = 128 tokens in time.
    with engine_of(trunk, queue_seconds=60, request_seconds=30) as engine:
        error, answered = answers(engine, (LONG, ("ner",)), ("good film", ("ner",)))
        assert is_idle(trunk, engine)
    assert isinstance(error, TextTooSlow)
    expected = r"has 5600 characters and takes \d+ tokens .* computes 128 tokens in its time limit of 30 s"
    with pytest.raises(TextTooSlow, match=expected):
        raise error
    assert isinstance(answered, list)


def test_a_client_does_not_starve_another_client_of_the_same_adapter(trunk: OneTrunk) -> None:
    """The flood of one client is 400 texts; the other client gets its answer after a few batches."""

    async def scenario(engine: Engine) -> None:
        flood = asyncio.create_task(
            engine.answer([TextRequest("word " * 12, ("intent",), "flood")] * 200, wait=True)
        )
        while not events.tokens:
            await asyncio.sleep(0.001)
        before = len(events.tokens)
        assert isinstance((await engine.answer([SHORT]))[0], list)
        assert len(events.tokens) <= before + 3
        flood.cancel()
        await asyncio.wait([flood])

    events = Batches(pause=0.01)
    with engine_of(trunk, events) as engine:
        asyncio.run(scenario(engine))


class Bomb(Batches):
    """Ends the batch with an exception, against its contract."""

    def batch(self, *args: Any) -> None:
        super().batch(*args)
        raise SystemExit(1)


def test_an_event_sink_that_raises_loses_no_long_text(trunk: OneTrunk) -> None:
    result: list[Result] = []
    with engine_of(trunk, Bomb()) as engine:
        result += answers(engine, (LONG, ("ner",)))
        assert is_idle(trunk, engine)
    assert isinstance(result[0], list)
