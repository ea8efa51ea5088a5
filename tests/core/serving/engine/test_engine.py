"""The engine, with real adapters of three tasks on a small random backbone."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from onetrunk.adapters.store.store import Store
from onetrunk.core import OneTrunk
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.tokenization import Encoded, TextEncoder
from onetrunk.core.errors import HashMismatch, UnknownAdapter, UsageError
from onetrunk.core.inference.registry import Residents
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.serving.engine.engine import Engine
from onetrunk.core.serving.engine.errors import (
    ExitRefused,
    OverTime,
    QueueFull,
    ShuttingDown,
    TextTooLong,
    TooManyAdapters,
    TooManyTokens,
    UnknownName,
)
from onetrunk.core.serving.engine.events import Observer
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import Answer, Input, Result

TASKS = ("ner", "sentiment", "intent")
TEXTS = ("good film", "Ada in London", "", "🙂 東京", "word " * 40)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, train_tiny: Callable[..., Any], bert: Backbone) -> Store:
    """Three tasks, and a second version of sentiment."""
    store = Store(tmp_path_factory.mktemp("store"))
    for task in (*TASKS, "sentiment"):
        train_tiny(store, task, bert, lr=0.05, seed=len(store.names()))
    return store


@pytest.fixture
def trunk(bert: Backbone, store: Store) -> OneTrunk:
    trunk = OneTrunk(bert, store=store)
    for task in TASKS:
        trunk.load(task)
    return trunk


@pytest.fixture
def engine(trunk: OneTrunk) -> Iterator[Engine]:
    engine = Engine(trunk)
    yield engine
    engine.close()


def answers(engine: Engine, *inputs: tuple[str, tuple[str, ...]]) -> list[Result]:
    return asyncio.run(engine.answer([Input(*each) for each in inputs]))


def records(result: Result) -> list[dict[str, Any]]:
    assert isinstance(result, list), result
    return [answer.record for answer in result]


def alike(found: Any, expected: Any) -> bool:
    """Return whether JSON values are equal, numbers within 1e-5: a text's logits depend on its batch that much."""
    if isinstance(expected, dict):
        same = isinstance(found, dict) and found.keys() == expected.keys()
        return same and all(alike(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(alike, found, expected))
    return bool(found == (pytest.approx(expected, abs=1e-5) if isinstance(expected, float) else expected))


def test_answers_are_those_of_predict(engine: Engine, trunk: OneTrunk) -> None:
    found = answers(engine, *((text, TASKS) for text in TEXTS))
    for text, result in zip(TEXTS, found, strict=True):
        (expected,) = trunk.predict([text], TASKS)
        assert isinstance(result, list)
        assert [(each.adapter, each.version, each.task) for each in result] == [
            (name, own.adapter, name) for name, own in zip(TASKS, expected, strict=True)
        ]
        assert alike(records(result), [own.result for own in expected])


@pytest.mark.parametrize("workers", [1, 3])
def test_many_requests_at_once_each_get_their_own(trunk: OneTrunk, workers: int) -> None:
    engine = Engine(trunk, Limits(workers=workers, batch_tokens=32))
    texts = [f"text number {number} is {'good' if number % 3 else 'bad'}" for number in range(60)]

    async def all_at_once() -> list[list[Result]]:
        asked = [engine.answer([Input(text, (TASKS[i % 3],))], wait=True) for i, text in enumerate(texts)]
        return await asyncio.gather(*asked)

    for i, (result,) in enumerate(asyncio.run(all_at_once())):
        ((expected,),) = trunk.predict([texts[i]], [TASKS[i % 3]])
        assert alike(records(result), [expected.result])
    engine.close()


def test_an_input_that_is_refused_fails_alone(engine: Engine) -> None:
    long = "x" * (engine.limits.characters + 1)
    many = ("ner",) * (engine.limits.adapters + 1)
    found = answers(engine, ("a", ("ner",)), ("b", ("nobody",)), (long, ("ner",)), ("c", many), ("d", ()))
    assert [type(each) for each in found] == [list, UnknownName, TextTooLong, TooManyAdapters, list]
    assert found[4] == []


def test_an_unknown_name_is_told_with_the_known_ones(engine: Engine) -> None:
    (error,) = answers(engine, ("a", ("ner", "nobody")))
    assert isinstance(error, UnknownName)
    assert str(error) == "no adapter 'nobody' is served; served are: intent, ner, sentiment"


class Faulty(Observer):
    """Breaks its promise not to raise."""

    def batch(self, *_: Any) -> None:
        raise SystemExit(1)


def test_an_observer_that_raises_costs_no_answer_and_no_thread(trunk: OneTrunk) -> None:
    engine = Engine(trunk, observer=Faulty())
    for _ in range(2):
        assert [type(each) for each in answers(engine, ("good", ("ner",)))] == [list]
    assert engine.status().waiting_tokens == 0
    engine.close()


def test_a_name_that_is_repeated_is_computed_once_and_answered_as_often_as_asked(trunk: OneTrunk) -> None:
    class Counting(Observer):
        tokens = 0

        def batch(self, tokens: int, *_: Any) -> None:
            self.tokens += tokens

    names = ("ner", "intent") * 32
    once, often = Counting(), Counting()
    for observer, asked in ((once, names[:2]), (often, names)):
        engine = Engine(trunk, observer=observer)
        (result,) = answers(engine, ("Ada in London", asked))
        engine.close()
        assert isinstance(result, list)
        assert [answer.adapter for answer in result] == list(asked)
    assert once.tokens == often.tokens


def test_an_input_of_too_many_tokens_over_its_adapters_is_refused_alone(trunk: OneTrunk) -> None:
    engine = Engine(trunk, Limits(input_tokens=100))
    text = "good " * 40
    found = answers(engine, (text, ("ner", "intent")), (text, TASKS), ("good", TASKS))
    assert [type(each) for each in found] == [list, TooManyTokens, list]
    assert str(found[1]).startswith("the text has 40 tokens, for 3 adapters 120; at most 100 are computed")
    assert engine.status().waiting_tokens == 0
    engine.close()


def test_a_wait_that_no_clock_can_hold_is_refused() -> None:
    with pytest.raises(UsageError, match="wait_ms is 60001; expected at most 60000"):
        Limits(wait_ms=60001)


class Gate(Observer):
    """Holds the device thread after each batch until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.ran = 0

    def batch(self, *_: Any) -> None:
        self.ran += 1
        self.open.wait(20)


def gated(trunk: OneTrunk, scenario: Callable[[Engine, Gate], Awaitable[None]], **limits: Any) -> None:
    """Run a scenario on an engine whose device is busy until the scenario opens the gate."""
    gate = Gate()
    engine = Engine(trunk, Limits(**limits), gate)

    async def run() -> None:
        first = asyncio.create_task(engine.answer([Input("the first", ("ner",))]))
        while not gate.ran:
            await asyncio.sleep(0.005)
        try:
            await scenario(engine, gate)
        finally:
            gate.open.set()
            with suppress(OverTime):  # which would hide what failed in the scenario
                await first

    try:
        asyncio.run(run())
    finally:
        engine.close()


def test_a_request_that_nobody_waits_for_leaves_the_queue(trunk: OneTrunk) -> None:
    async def scenario(engine: Engine, gate: Gate) -> None:
        task = asyncio.create_task(engine.answer([Input("never mind", ("ner", "intent"))] * 3))
        while engine.status().waiting_texts < 3:
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert engine.status().waiting_texts == 0
        gate.open.set()
        await engine.drain()
        assert engine.status().waiting_tokens == 0

    gated(trunk, scenario)
    assert all(post.resident.users == 1 for post in trunk.residents.posts.values())


def test_a_request_over_time_is_told_and_leaves_the_queue(trunk: OneTrunk) -> None:
    async def scenario(engine: Engine, _: Gate) -> None:
        with pytest.raises(OverTime, match=r"took over 0\.2 s and was dropped; try again in \d+ s"):
            await engine.answer([Input("too late", ("intent",))])
        assert engine.status().waiting_texts == 0

    gated(trunk, scenario, request_seconds=0.2)


def test_over_the_limit_a_request_is_refused_and_a_patient_one_waits(trunk: OneTrunk) -> None:
    async def scenario(engine: Engine, gate: Gate) -> None:
        full = asyncio.create_task(engine.answer([Input("word " * 30, ("ner",))]))
        while engine.status().waiting_texts < 1:
            await asyncio.sleep(0.005)
        assert engine.status().state == "overloaded"
        with pytest.raises(QueueFull, match=r"\d+ tokens wait, at most 20 may; try again in \d+ s") as caught:
            await engine.answer([Input("one more", ("ner",))])
        assert caught.value.retry_after >= 1
        patient = asyncio.create_task(engine.answer([Input("one more", ("ner",))], wait=True))
        await asyncio.sleep(0.05)
        assert not patient.done()
        gate.open.set()
        assert isinstance((await patient)[0], list)
        await full

    gated(trunk, scenario, queue_tokens=20)


def test_a_swap_leaves_requests_their_version_and_forgets_it_after_them(trunk: OneTrunk) -> None:
    async def scenario(engine: Engine, gate: Gate) -> None:
        await engine.load("mood", "sentiment@1")
        old = asyncio.create_task(engine.answer([Input("good", ("mood",))]))
        while engine.status().waiting_texts < 1:
            await asyncio.sleep(0.005)
        served, previous = await engine.load("mood", "sentiment@2")
        assert (served.version, previous) == ("sentiment@2", "sentiment@1")
        new = asyncio.create_task(engine.answer([Input("good", ("mood",))]))
        await asyncio.sleep(0.02)
        gate.open.set()
        versions = [answer.version for task in (old, new) for answer in (await task)[0]]  # type: ignore[union-attr]
        assert versions == ["sentiment@1", "sentiment@2"]

    gated(trunk, scenario)
    assert {key[0] for key in trunk.residents._versions} == {"ner@1", "sentiment@2", "intent@1"}


def test_unloading_leaves_what_is_under_way_its_adapter(trunk: OneTrunk) -> None:
    async def scenario(engine: Engine, gate: Gate) -> None:
        asked = asyncio.create_task(engine.answer([Input("good", ("intent",))]))
        while engine.status().waiting_texts < 1:
            await asyncio.sleep(0.005)
        await engine.unload("intent")
        with pytest.raises(UnknownName, match="no adapter 'intent'"):
            await engine.unload("intent")
        gate.open.set()
        assert isinstance((await asked)[0], list)
        assert isinstance((await engine.answer([Input("good", ("intent",))]))[0], UnknownName)

    gated(trunk, scenario)


class Choosy:
    """An encoder that fails on some texts; `tokenise` cannot say on which."""

    def __init__(self, own: TextEncoder) -> None:
        self._own = own

    def tokenise(self, texts: Sequence[str]) -> list[Any]:
        if any("bomb" in text for text in texts):
            raise SystemExit(1)
        return self._own.tokenise(texts)

    def arrange(self, *args: Any) -> Encoded:
        return self._own.arrange(*args)


def test_a_text_that_cannot_be_tokenised_fails_alone(trunk: OneTrunk) -> None:
    trunk.encoder = Choosy(trunk.encoder)  # type: ignore[assignment]
    engine = Engine(trunk)
    found = answers(engine, *((text, ("ner",)) for text in ("good", "a bomb", "bad")))
    assert [type(each) for each in found] == [list, ExitRefused, list]
    assert engine.status().waiting_tokens == 0
    engine.close()


class SlowEncoder:
    """An encoder that tokenises when it is told to."""

    def __init__(self, own: TextEncoder) -> None:
        self._own = own
        self.asked = self.arranged = 0
        self.go_on = threading.Event()

    def tokenise(self, texts: Sequence[str]) -> list[Any]:
        self.asked += 1
        self.go_on.wait(20)
        return self._own.tokenise(texts)

    def arrange(self, *args: Any) -> Encoded:
        self.arranged += 1
        return self._own.arrange(*args)


def test_room_that_is_freed_while_tokenising_goes_to_who_waits_for_it(trunk: OneTrunk) -> None:
    trunk.encoder = slow = SlowEncoder(trunk.encoder)  # type: ignore[assignment]
    engine = Engine(trunk, Limits(queue_tokens=5))

    async def scenario() -> None:
        gone = asyncio.create_task(engine.answer([Input("word " * 30, ("ner",))]))
        while not slow.asked:
            await asyncio.sleep(0.005)
        patient = asyncio.create_task(engine.answer([Input("one more", ("ner",))], wait=True))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.wait([gone])
        await asyncio.sleep(0.05)  # the patient one has looked in vain
        slow.go_on.set()
        async with asyncio.timeout(10):
            assert isinstance((await patient)[0], list)
            await engine.drain()
        assert engine.status().waiting_tokens == 0

    asyncio.run(scenario())
    engine.close()


def test_a_large_request_that_nobody_waits_for_is_not_prepared_to_its_end(trunk: OneTrunk) -> None:
    trunk.encoder = slow = SlowEncoder(trunk.encoder)  # type: ignore[assignment]
    engine = Engine(trunk, Limits(queue_tokens=10**6))

    async def scenario() -> None:
        gone = asyncio.create_task(engine.answer([Input("word " * 6000, ("ner",))] * 40))
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


def test_figures_of_a_name_end_with_it(trunk: OneTrunk) -> None:
    async def scenario(engine: Engine, gate: Gate) -> None:
        asked = asyncio.create_task(engine.answer([Input("good", ("intent",))]))
        while engine.status().waiting_texts < 1:
            await asyncio.sleep(0.005)
        await engine.unload("intent")
        gate.open.set()
        await asked
        await engine.load("intent", "intent")
        assert engine.one("intent").requests == 0

    gated(trunk, scenario)


class Slow(PluginHost):
    """Takes its time over a task until it is told to go on, and says in which order it is asked."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.asked: list[str] = []

    @classmethod
    def around(cls, own: Residents) -> Slow:
        """Put a slow host in the place of that of `own`."""
        slow = cls()
        slow.__dict__.update(own._host.__dict__)
        own._host = slow
        return slow

    def task(self, name: str) -> Any:
        self.asked.append(name)
        self.go_on.wait(20)
        return super().task(name)


def test_what_is_asked_of_one_name_takes_place_in_order_and_leaves_others_their_turn(
    bert: Backbone, store: Store
) -> None:
    trunk = OneTrunk(bert, store=store)
    engine, slow = Engine(trunk), Slow.around(trunk.residents)

    async def scenario() -> None:
        asked = [asyncio.create_task(engine.load("one", each)) for each in ("ner", "intent", "sentiment@1")]
        unload = asyncio.create_task(engine.unload("one"))
        asked.append(asyncio.create_task(engine.load("one", "sentiment@2")))
        other = asyncio.create_task(engine.load("other", "intent"))
        await asyncio.sleep(0.1)
        assert sorted(slow.asked) == ["intent", "ner"]  # the second of them as `other`
        asked[0].cancel()  # takes place all the same
        slow.go_on.set()
        await asyncio.gather(other, unload, *asked[1:])
        assert [task.result()[1] for task in asked[1:]] == ["ner@1", "intent@1", None]
        assert engine.one("one").version == "sentiment@2"

    asyncio.run(scenario())
    engine.close()
    assert (engine._loader._last, trunk.residents._loading) == ({}, {})


def test_the_end_does_not_wait_for_a_load_that_takes_long(trunk: OneTrunk) -> None:
    engine, slow = Engine(trunk), Slow.around(trunk.residents)

    async def scenario() -> None:
        load = asyncio.create_task(engine.load("mood", "sentiment@1"))
        while not slow.asked:
            await asyncio.sleep(0.005)
        load.cancel()

    asyncio.run(scenario())
    began = time.monotonic()
    engine.close()
    assert time.monotonic() - began < 5
    slow.go_on.set()


def test_a_load_that_wants_to_end_the_process_fails_alone(trunk: OneTrunk) -> None:
    class Leaving(Slow):
        def task(self, name: str) -> Any:
            raise SystemExit(len(name))

    Leaving.around(trunk.residents)
    engine = Engine(trunk)
    with pytest.raises(RuntimeError, match=r"SystemExit\(9\) was raised while loading"):
        asyncio.run(engine.load("mood", "sentiment@1"))
    engine.close()


def test_a_failed_load_leaves_the_old_one_serving(bert: Backbone, store: Store, tmp_path: Path) -> None:
    own = Store(shutil.copytree(store.root, tmp_path / "store"))
    trunk = OneTrunk(bert, store=own)
    trunk.load("sentiment@1")
    weights = own.resolve("sentiment@2").path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    engine = Engine(trunk)

    async def scenario() -> None:
        for reference, kind in (("sentiment@2", HashMismatch), ("nobody", UnknownAdapter)):
            with pytest.raises(kind):
                await engine.load("sentiment@1", reference)
        (result,) = await engine.answer([Input("good", ("sentiment@1",))])
        assert isinstance(result, list)
        assert result[0].version == "sentiment@1"

    asyncio.run(scenario())
    engine.close()


def test_an_adapter_that_was_evicted_answers_again(bert: Backbone, store: Store) -> None:
    trunk = OneTrunk(bert, store=store, memory=1)
    for task in TASKS:
        trunk.load(task)
    engine = Engine(trunk)
    assert {each.tier for each in engine.served()} == {"disk"}
    assert all(isinstance(result, list) for result in answers(engine, *((text, TASKS) for text in TEXTS)))
    engine.close()


def test_draining_answers_what_was_accepted_and_takes_nothing_more(trunk: OneTrunk) -> None:
    async def scenario(engine: Engine, gate: Gate) -> None:
        accepted = [asyncio.create_task(engine.answer([Input(text, ("ner",))])) for text in TEXTS]
        await asyncio.sleep(0.02)
        draining = asyncio.create_task(engine.drain())
        await asyncio.sleep(0)
        with pytest.raises(ShuttingDown, match="shutting down; try again in 5 s"):
            await engine.answer([Input("more", ("ner",))])
        gate.open.set()
        await draining
        assert all(task.done() and isinstance(task.result()[0], list) for task in accepted)

    gated(trunk, scenario)


def test_figures_tell_who_was_asked_and_how_long_it_took(engine: Engine) -> None:
    answers(engine, *(("good film", ("ner", "sentiment")) for _ in range(5)))
    by_name = {each.name: each for each in engine.served()}
    assert {name: each.requests for name, each in by_name.items()} == {"ner": 5, "sentiment": 5, "intent": 0}
    assert by_name["ner"].p95 is not None
    assert 0 < by_name["ner"].p95 < 20
    assert by_name["intent"].p95 is None


def test_threads_end_with_the_engine(trunk: OneTrunk) -> None:
    before = set(threading.enumerate())  # another service may run for other tests
    engine = Engine(trunk)
    answers(engine, ("good", TASKS))
    engine.close()
    assert set(threading.enumerate()) <= before
    assert engine.status().state == "broken"


def test_an_answer_is_one_flat_object_with_the_keys_of_the_task() -> None:
    assert Answer("a", "a@1", "ner", {"entities": []}).to_json() == {
        "adapter": "a",
        "version": "a@1",
        "task": "ner",
        "entities": [],
    }
