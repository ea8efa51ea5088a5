"""Loading, replacing and unloading adapters while requests are answered."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from onetrunk.adapters.store.store import Store
from onetrunk.core import OneTrunk
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import HashMismatch, UnknownAdapter
from onetrunk.core.inference.registry import AdapterRegistry
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.serving.engine.engine import Engine
from onetrunk.core.serving.engine.errors import UnknownName
from onetrunk.core.serving.engine.requests import TextRequest
from tests.core.serving.engine.scenarios import Gate, with_busy_device


def test_a_swap_keeps_the_old_version_until_its_requests_are_answered(trunk: OneTrunk) -> None:
    async def scenario(engine: Engine, gate: Gate) -> None:
        await engine.load("mood", "sentiment@1")
        old = asyncio.create_task(engine.answer([TextRequest("good", ("mood",))]))
        while engine.status().waiting_texts < 1:
            await asyncio.sleep(0.005)
        served, previous = await engine.load("mood", "sentiment@2")
        assert (served.version, previous) == ("sentiment@2", "sentiment@1")
        new = asyncio.create_task(engine.answer([TextRequest("good", ("mood",))]))
        await asyncio.sleep(0.02)
        gate.open.set()
        versions = [answer.version for task in (old, new) for answer in (await task)[0]]  # type: ignore[union-attr]
        assert versions == ["sentiment@1", "sentiment@2"]

    with_busy_device(trunk, scenario)
    assert {key[0] for key in trunk.registry._versions} == {"ner@1", "sentiment@2", "intent@1"}


def test_unloading_keeps_the_adapter_until_its_requests_are_answered(trunk: OneTrunk) -> None:
    async def scenario(engine: Engine, gate: Gate) -> None:
        asked = asyncio.create_task(engine.answer([TextRequest("good", ("intent",))]))
        while engine.status().waiting_texts < 1:
            await asyncio.sleep(0.005)
        await engine.unload("intent")
        with pytest.raises(UnknownName, match="adapter 'intent' is not served"):
            await engine.unload("intent")
        gate.open.set()
        assert isinstance((await asked)[0], list)
        assert isinstance((await engine.answer([TextRequest("good", ("intent",))]))[0], UnknownName)

    with_busy_device(trunk, scenario)


def test_statistics_of_a_name_end_with_it(trunk: OneTrunk) -> None:
    async def scenario(engine: Engine, gate: Gate) -> None:
        asked = asyncio.create_task(engine.answer([TextRequest("good", ("intent",))]))
        while engine.status().waiting_texts < 1:
            await asyncio.sleep(0.005)
        await engine.unload("intent")
        gate.open.set()
        await asked
        await engine.load("intent", "intent")
        assert engine.adapter("intent").requests == 0

    with_busy_device(trunk, scenario)


class Slow(PluginHost):
    """A plugin host whose `task` blocks until `go_on` is set. asked: the tasks requested, in order."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.asked: list[str] = []

    @classmethod
    def around(cls, own: AdapterRegistry) -> Slow:
        """Replace the host of `own` by a slow one, and return that."""
        slow = cls()
        slow.__dict__.update(own._host.__dict__)
        own._host = slow
        return slow

    def task(self, name: str) -> Any:
        self.asked.append(name)
        self.go_on.wait(20)
        return super().task(name)


def test_loads_of_one_name_take_place_in_order_and_do_not_block_other_names(
    bert: Backbone, store: Store
) -> None:
    trunk = OneTrunk(bert, store=store)
    engine, slow = Engine(trunk), Slow.around(trunk.registry)

    async def scenario() -> None:
        asked = [asyncio.create_task(engine.load("one", each)) for each in ("ner", "intent", "sentiment@1")]
        unload = asyncio.create_task(engine.unload("one"))
        asked.append(asyncio.create_task(engine.load("one", "sentiment@2")))
        other = asyncio.create_task(engine.load("other", "intent"))
        await asyncio.sleep(0.1)
        assert sorted(slow.asked) == ["intent", "ner"]  # "intent" is the load of `other`
        asked[0].cancel()  # the load takes place all the same
        slow.go_on.set()
        await asyncio.gather(other, unload, *asked[1:])
        assert [task.result()[1] for task in asked[1:]] == ["ner@1", "intent@1", None]
        assert engine.adapter("one").version == "sentiment@2"

    asyncio.run(scenario())
    engine.close()
    assert (dict(engine._loader._locks), trunk.registry._loading) == ({}, {})


def test_close_does_not_wait_for_a_slow_load(trunk: OneTrunk) -> None:
    engine, slow = Engine(trunk), Slow.around(trunk.registry)

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


def test_a_load_that_raises_system_exit_fails_alone(trunk: OneTrunk) -> None:
    class Leaving(Slow):
        def task(self, name: str) -> Any:
            raise SystemExit(len(name))

    Leaving.around(trunk.registry)
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
        (result,) = await engine.answer([TextRequest("good", ("sentiment@1",))])
        assert isinstance(result, list)
        assert result[0].version == "sentiment@1"

    asyncio.run(scenario())
    engine.close()
