"""The engine answers as `OneTrunk.predict` does; a faulty text or event sink fails alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from onetrunk.adapters.store.store import Store
from onetrunk.core import OneTrunk
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.tokenization import Encoded, TextEncoder
from onetrunk.core.errors import UsageError
from onetrunk.core.serving.engine.engine import Engine
from onetrunk.core.serving.engine.errors import (
    ExitRefused,
    TextTooLong,
    TooManyAdapters,
    TooManyTokens,
    UnknownName,
)
from onetrunk.core.serving.engine.events import EventSink
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import AdapterAnswer, Result, TextRequest
from tests.core.serving.engine.scenarios import TASKS, TEXTS, answers


def records(result: Result) -> list[dict[str, Any]]:
    assert isinstance(result, list), result
    return [answer.record for answer in result]


def alike(found: Any, expected: Any) -> bool:
    """Return whether JSON values are equal, numbers within 1e-5: logits of a text vary that much with its batch."""
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
def test_many_requests_at_once_each_get_their_own_answer(trunk: OneTrunk, workers: int) -> None:
    engine = Engine(trunk, Limits(workers=workers, batch_tokens=32))
    texts = [f"text number {number} is {'good' if number % 3 else 'bad'}" for number in range(60)]

    async def all_at_once() -> list[list[Result]]:
        asked = [
            engine.answer([TextRequest(text, (TASKS[i % 3],))], wait=True) for i, text in enumerate(texts)
        ]
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


def test_an_unknown_name_is_reported_with_the_known_ones(engine: Engine) -> None:
    (error,) = answers(engine, ("a", ("ner", "nobody")))
    assert isinstance(error, UnknownName)
    assert str(error) == "adapter 'nobody' is not served; served adapters: intent, ner, sentiment"


class Faulty(EventSink):
    """An event sink that raises, against its contract."""

    def batch(self, *_: Any) -> None:
        raise SystemExit(1)


def test_an_event_sink_that_raises_loses_no_answer_and_ends_no_thread(trunk: OneTrunk) -> None:
    engine = Engine(trunk, events=Faulty())
    for _ in range(2):
        assert [type(each) for each in answers(engine, ("good", ("ner",)))] == [list]
    assert engine.status().waiting_tokens == 0
    engine.close()


def test_a_repeated_name_is_computed_once_and_answered_as_often_as_requested(trunk: OneTrunk) -> None:
    class Counting(EventSink):
        tokens = 0

        def batch(self, tokens: int, *_: Any) -> None:
            self.tokens += tokens

    names = ("ner", "intent") * 32
    once, often = Counting(), Counting()
    for events, asked in ((once, names[:2]), (often, names)):
        engine = Engine(trunk, events=events)
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
    assert str(found[1]).startswith("the text has 40 tokens, for 3 adapters 120; at most 100 are allowed")
    assert engine.status().waiting_tokens == 0
    engine.close()


def test_a_batching_wait_above_a_minute_is_refused() -> None:
    with pytest.raises(UsageError, match="wait_ms is 60001; expected at most 60000"):
        Limits(wait_ms=60001)


class FailingEncoder:
    """An encoder whose `tokenise` raises for some texts without saying for which."""

    def __init__(self, own: TextEncoder) -> None:
        self._own = own

    def tokenise(self, texts: Sequence[str]) -> list[Any]:
        if any("bomb" in text for text in texts):
            raise SystemExit(1)
        return self._own.tokenise(texts)

    def arrange(self, *args: Any, **options: Any) -> Encoded:
        return self._own.arrange(*args, **options)


def test_a_text_that_cannot_be_tokenised_fails_alone(trunk: OneTrunk) -> None:
    trunk.encoder = FailingEncoder(trunk.encoder)  # type: ignore[assignment]
    engine = Engine(trunk)
    found = answers(engine, *((text, ("ner",)) for text in ("good", "a bomb", "bad")))
    assert [type(each) for each in found] == [list, ExitRefused, list]
    assert engine.status().waiting_tokens == 0
    engine.close()


def test_an_evicted_adapter_is_reloaded_and_answers(bert: Backbone, store: Store) -> None:
    trunk = OneTrunk(bert, store=store, memory=1)
    for task in TASKS:
        trunk.load(task)
    engine = Engine(trunk)
    assert {each.tier for each in engine.adapters()} == {"disk"}
    assert all(isinstance(result, list) for result in answers(engine, *((text, TASKS) for text in TEXTS)))
    engine.close()


def test_statistics_have_the_requests_and_the_latency_of_each_name(engine: Engine) -> None:
    answers(engine, *(("good film", ("ner", "sentiment")) for _ in range(5)))
    by_name = {each.name: each for each in engine.adapters()}
    assert {name: each.requests for name, each in by_name.items()} == {"ner": 5, "sentiment": 5, "intent": 0}
    assert by_name["ner"].p95 is not None
    assert 0 < by_name["ner"].p95 < 20
    assert by_name["intent"].p95 is None


def test_threads_end_with_the_engine(trunk: OneTrunk) -> None:
    before = set(threading.enumerate())  # fixtures of other tests may run a service
    engine = Engine(trunk)
    answers(engine, ("good", TASKS))
    engine.close()
    assert set(threading.enumerate()) <= before
    assert engine.status().state == "broken"


def test_an_answer_is_one_flat_object_with_the_keys_of_the_task() -> None:
    assert AdapterAnswer("a", "a@1", "ner", {"entities": []}).to_json() == {
        "adapter": "a",
        "version": "a@1",
        "task": "ner",
        "entities": [],
    }
