"""Names that are loaded at their first use, the bound on loaded names, lanes and deadlines of loads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from onetrunk.adapters.store.store import Store
from onetrunk.core import OneTrunk
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import OneTrunkError
from onetrunk.core.serving.engine.adapter_loader import AdapterLoader
from onetrunk.core.serving.engine.engine import Engine
from onetrunk.core.serving.engine.errors import AdapterUnavailable, LoadTimeout, UnknownName
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import TextRequest
from tests.core.serving.engine.scenarios import TASKS
from tests.core.serving.engine.test_adapter_loader import Slow

MANY = {f"name-{number}": TASKS[number % 3] for number in range(12)}


@contextmanager
def empty(bert: Backbone, store: Store, **limits: Any) -> Iterator[Engine]:
    with closing(Engine(OneTrunk(bert, store=store), Limits(**limits))) as engine:
        yield engine


def ignore(name: str, result: object) -> None:
    assert not isinstance(result, OneTrunkError), (name, result)


def test_beyond_the_limit_names_are_loaded_at_their_first_use(bert: Backbone, store: Store) -> None:
    async def scenario(engine: Engine) -> None:
        await engine.warm_up(MANY, ignore)
        status = engine.status()
        assert (len(engine.served), status.adapters, status.pending) == (4, 12, 8)
        for _ in range(2):
            for name in MANY:
                (result,) = await engine.answer([TextRequest("good film", (name,))])
                assert isinstance(result, list)
                assert result[0].version.startswith(f"{MANY[name]}@")
                assert len(engine.served) <= 4

    with empty(bert, store, loaded=4) as engine:
        asyncio.run(scenario(engine))


def test_a_request_can_use_more_names_than_are_kept_loaded(bert: Backbone, store: Store) -> None:
    async def scenario(engine: Engine) -> None:
        await engine.warm_up(MANY, ignore)
        results = await engine.answer([TextRequest("good film", (name,)) for name in MANY])
        assert all(isinstance(result, list) for result in results), results
        while len(engine.served) > 4:
            await asyncio.sleep(0.01)

    with empty(bert, store, loaded=4) as engine:
        asyncio.run(scenario(engine))


def test_the_least_recently_used_name_is_unloaded(bert: Backbone, store: Store) -> None:
    async def scenario(engine: Engine) -> None:
        await engine.warm_up({"a": "ner", "b": "ner", "c": "ner"}, ignore)
        for name in ("b", "a", "c"):
            await engine.answer([TextRequest("good", (name,))])
        assert set(engine.served) == {"a", "c"}

    with empty(bert, store, loaded=2) as engine:
        asyncio.run(scenario(engine))


def test_a_name_that_was_unloaded_answers_with_the_same_version(bert: Backbone, store: Store) -> None:
    async def scenario(engine: Engine) -> None:
        await engine.load("mood", "sentiment@1")
        await engine.load("other", "ner")
        assert set(engine.served) == {"other"}
        (result,) = await engine.answer([TextRequest("good", ("mood",))])
        assert isinstance(result, list)
        assert result[0].version == "sentiment@1"

    with empty(bert, store, loaded=1) as engine:
        asyncio.run(scenario(engine))


def test_the_service_answers_while_it_loads(bert: Backbone, store: Store) -> None:
    with empty(bert, store) as engine:
        slow = Slow.around(engine.trunk.registry)

        async def scenario() -> None:
            warm_up = asyncio.create_task(engine.warm_up({"a": "ner", "b": "intent"}, ignore))
            while not slow.asked:
                await asyncio.sleep(0.005)
            assert engine.status().state == "loading"
            asked = asyncio.create_task(engine.answer([TextRequest("good", ("b",))]))
            await asyncio.sleep(0.05)
            assert slow.asked == ["ner", "intent"]  # it does not wait for the first one
            slow.go_on.set()
            assert isinstance((await asked)[0], list)
            await warm_up
            assert engine.status().state == "ready"

        asyncio.run(scenario())


def test_a_name_that_cannot_be_loaded_fails_with_the_reason(bert: Backbone, store: Store) -> None:
    async def scenario(engine: Engine) -> None:
        await engine.warm_up({"a": "ner", "b": "nobody"}, ignore)
        failed, answered, unknown = await engine.answer(
            [TextRequest("good", (name,)) for name in ("b", "a", "c")]
        )
        assert isinstance(failed, AdapterUnavailable)
        assert "no adapter 'nobody' in the store" in str(failed)
        assert isinstance(answered, list)
        assert isinstance(unknown, UnknownName)
        assert unknown.known == ("a", "b")

    with empty(bert, store, loaded=1) as engine:
        asyncio.run(scenario(engine))


def test_a_name_that_is_not_loaded_can_be_unloaded_for_good(bert: Backbone, store: Store) -> None:
    async def scenario(engine: Engine) -> None:
        await engine.warm_up({"a": "ner", "b": "intent"}, ignore)
        await engine.unload("b")
        assert engine.names() == {"a"}
        with pytest.raises(UnknownName, match="adapter 'b' is not served"):
            await engine.unload("b")

    with empty(bert, store, loaded=1) as engine:
        asyncio.run(scenario(engine))


def test_loads_from_the_store_do_not_wait_for_loads_from_a_remote() -> None:
    go_on, done = threading.Event(), []

    async def scenario() -> None:
        loader = AdapterLoader(30)
        slow = [
            asyncio.create_task(loader.run(f"remote {number}", lambda _: go_on.wait(20), remote=True))
            for number in range(5)
        ]
        await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            for number in range(5):
                await loader.run(f"store {number}", lambda _: done.append(1))
        assert not any(task.done() for task in slow)
        go_on.set()
        await asyncio.gather(*slow)

    asyncio.run(scenario())
    assert len(done) == 5


def test_a_load_over_its_deadline_fails_and_frees_its_place() -> None:
    go_on = threading.Event()

    async def scenario() -> None:
        loader = AdapterLoader(0.2)
        began = time.monotonic()
        hung = [loader.run(f"name {number}", lambda _: go_on.wait(20)) for number in range(4)]
        found = await asyncio.gather(*hung, return_exceptions=True)
        assert time.monotonic() - began < 5
        assert all(isinstance(each, LoadTimeout) for each in found)
        assert await loader.run("name 9", lambda _: 7) == 7
        with pytest.raises(LoadTimeout, match=r"loading name 1 took over 0\.2 s and was given up"):
            raise found[1]  # type: ignore[misc]
        go_on.set()

    asyncio.run(scenario())


def test_a_load_that_was_given_up_changes_nothing_later(bert: Backbone, store: Store) -> None:
    with empty(bert, store, load_seconds=0.3) as engine:
        slow = Slow.around(engine.trunk.registry)

        async def scenario() -> None:
            with pytest.raises(LoadTimeout):
                await engine.load("a", "ner")
            slow.go_on.set()
            while engine.trunk.registry._loading:
                await asyncio.sleep(0.01)
            assert engine.names() == set()
            assert not engine.trunk.registry._versions

        asyncio.run(scenario())
