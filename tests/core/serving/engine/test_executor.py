"""Batches in which a text fails: the error of each text, and what is computed again."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onetrunk.adapters.store.store import Store
from onetrunk.core import OneTrunk
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.serving.engine.engine import Engine
from onetrunk.core.serving.engine.errors import AdapterUnavailable, AnswerFailed, ExitRefused
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import Result, TextRequest
from onetrunk.core.tasks.hookspecs import hookimpl
from onetrunk.plugins import ner, sentiment


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, train_tiny: Callable[..., Any], bert: Backbone) -> Store:
    store = Store(tmp_path_factory.mktemp("store"))
    for task in ("ner", "sentiment"):
        train_tiny(store, task, bert, lr=0.05)
    return store


def answers(engine: Engine, *inputs: tuple[str, tuple[str, ...]]) -> list[Result]:
    return asyncio.run(engine.answer([TextRequest(*each) for each in inputs]))


class Bad:
    """A plugin whose decoder fails on texts with the word 'bomb', and wants to end the process on 'exit'."""

    @hookimpl
    def tasks(self) -> list[Any]:
        spec = sentiment.tasks()[0]

        def decode(example: Any, *rest: Any) -> Any:
            if "bomb" in example.text:
                raise ValueError("boom")
            if "exit" in example.text:
                raise SystemExit(1)
            return spec.decode(example, *rest)

        return [replace(spec, name="sentiment", decode=decode)]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("a bomb", AnswerFailed, "sentiment@1 could not answer this text; the service's log says why"),
        ("an exit", ExitRefused, "sentiment@1 tried to end the service instead of answering this text"),
    ],
)
def test_a_plugin_that_raises_fails_its_own_text_alone(
    bert: Backbone, store: Store, text: str, kind: type[Exception], message: str
) -> None:
    trunk = OneTrunk(bert, store=store, host=PluginHost.of(ner, Bad()))
    for task in ("ner", "sentiment"):
        trunk.load(task)
    engine = Engine(trunk)
    found = answers(engine, ("good", ("sentiment",)), (text, ("ner", "sentiment")), (text, ("ner",)))
    assert engine.status().state == "ready"
    engine.close()
    assert [type(each) for each in found] == [list, kind, list]
    assert str(found[1]).startswith(message)


class Counted:
    """A plugin that counts forward passes. Its decoder fails on 'bomb', its head on texts of `length` tokens."""

    def __init__(self, length: int = 0) -> None:
        self.passes, self._length = 0, length

    @hookimpl
    def tasks(self) -> list[Any]:
        spec = sentiment.tasks()[0]

        def make_head(*args: Any) -> Any:
            head = spec.make_head(*args)
            head.register_forward_pre_hook(self._count)
            return head

        def decode(example: Any, *rest: Any) -> Any:
            if "bomb" in example.text:
                raise ValueError("boom")
            return spec.decode(example, *rest)

        return [replace(spec, make_head=make_head, decode=decode)]

    def _count(self, _head: Any, inputs: tuple[Any, Any]) -> None:
        self.passes += 1
        if self._length in inputs[1].offsets.diff().tolist():
            raise RuntimeError("no memory")


def served_by(
    plugin: Counted, bert: Backbone, store: Store, texts: Sequence[str]
) -> tuple[list[Result], int]:
    """Return the answers of `sentiment` to one batch of texts, and the forward passes that they took."""
    trunk = OneTrunk(bert, store=store, host=PluginHost.of(plugin))
    trunk.load("sentiment")
    engine = Engine(trunk, Limits(workers=1))
    plugin.passes = 0
    found = answers(engine, *((text, ("sentiment",)) for text in texts))
    engine.close()
    return found, plugin.passes


def test_a_decoder_that_fails_computes_nothing_again(bert: Backbone, store: Store) -> None:
    _, passes = served_by(Counted(), bert, store, ["good"] * 15)
    found, again = served_by(Counted(), bert, store, ["good"] * 7 + ["a bomb"] + ["good"] * 7)
    assert [type(each) for each in found] == [list] * 7 + [AnswerFailed] + [list] * 7
    assert again == passes


def test_a_forward_pass_that_fails_is_narrowed_down_by_halves(
    bert: Backbone, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    long = "film " * 30
    plugin = Counted(length=bert.encoder.arrange(bert.encoder.tokenise([long])[0]).tokens)
    found, passes = served_by(plugin, bert, store, ["good"] * 21 + [long] + ["good"] * 10)
    assert [type(each) for each in found] == [list] * 21 + [AnswerFailed] + [list] * 10
    assert passes <= 1 + 2 * 5
    assert (
        "a forward pass of 32 texts failed with RuntimeError; computing its halves again" in caplog.messages
    )


def test_the_error_of_a_forward_pass_names_the_adapter_that_failed(bert: Backbone, store: Store) -> None:
    long = "film " * 30
    plugin = Counted(length=bert.encoder.arrange(bert.encoder.tokenise([long])[0]).tokens)
    trunk = OneTrunk(bert, store=store, host=PluginHost.of(ner, plugin))
    for task in ("ner", "sentiment"):
        trunk.load(task)
    engine = Engine(trunk)
    failed, answered = answers(engine, (long, ("ner", "sentiment")), (long, ("ner",)))
    engine.close()
    assert isinstance(failed, AnswerFailed)
    assert failed.version == "sentiment@1"
    assert isinstance(answered, list)


def test_an_evicted_adapter_that_cannot_be_reloaded_fails_alone(
    bert: Backbone, store: Store, tmp_path: Path
) -> None:
    own = Store(shutil.copytree(store.root, tmp_path / "store"))
    trunk = OneTrunk(bert, store=own, memory=1)
    for task in ("ner", "sentiment"):
        trunk.load(task)
    shutil.rmtree(own.resolve("ner@1").path)
    engine = Engine(trunk)
    failed, answered = answers(engine, ("good", ("sentiment", "ner")), ("good", ("sentiment",)))
    engine.close()
    assert isinstance(failed, AdapterUnavailable)
    assert failed.version == "ner@1"
    assert isinstance(answered, list)
