"""Fixtures: the real service and server, in a thread of this process, on a free port."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from onetrunk.adapters.store.store import Store
from onetrunk.core import OneTrunk
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.serving.engine.engine import Engine
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.http.app import App
from onetrunk.core.serving.http.auth import Access
from onetrunk.core.serving.http.json_log import EventLog
from onetrunk.core.serving.http.prometheus import Metrics
from onetrunk.core.serving.http.server import Server
from onetrunk.core.serving.http.sockets import listen, url_of
from onetrunk.core.sharing.pull import Puller
from onetrunk.core.tasks.hookspecs import hookimpl
from onetrunk.plugins import sentiment
from tests import stock as trained

backbone, data, stock = trained.backbone, trained.data, trained.stock

ADAPTERS = ("mood", "mood@1", "names")
TEXT = "the film is great"


class Running:
    """A running service. client: sends requests to it. url: its address."""

    def __init__(self, app: App, server: Server, url: str, log: io.StringIO) -> None:
        self.app, self.engine, self.server, self.url = app, app.service.engine, server, url
        self._log = log
        self.client = httpx2.Client(base_url=url, timeout=30, trust_env=False)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def predict(self, *inputs: Any, **options: Any) -> httpx2.Response:
        """POST inputs to /v1/predict."""
        return self.client.post("/v1/predict", json={"inputs": list(inputs)}, **options)

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the logged events, of one kind or all."""
        self.app.service.log.flush()
        every = [json.loads(line) for line in self._log.getvalue().splitlines()]
        return [event for event in every if name in (None, event["event"])]


def ask(text: str = TEXT, *adapters: str) -> dict[str, Any]:
    """Return an input."""
    return {"text": text, "adapters": list(adapters or ("mood",))}


@contextmanager
def running(trunk: OneTrunk, limits: Limits | None = None, access: Access | None = None) -> Iterator[Running]:
    """Serve the adapters of a trunk while the block runs."""
    log, started = io.StringIO(), threading.Event()
    engine = Engine(trunk, limits, Metrics())
    sockets = listen("127.0.0.1", 0, loopback_only=True)
    app = App(engine, access=access, log=EventLog(log))

    async def on_start() -> None:
        started.set()

    server = Server(app, on_start)
    thread = threading.Thread(target=server.run, args=(sockets,), name="server")
    thread.start()
    assert started.wait(30)
    service = Running(app, server, url_of("127.0.0.1", sockets), log)
    try:
        yield service
    finally:
        service.client.close()
        server.should_exit = True
        thread.join(60)
        engine.close()
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def small(backbone: Path) -> Backbone:
    """The backbone of the stock, loaded."""
    return Backbone.load(backbone, device="cpu", dtype="fp32")


@pytest.fixture(scope="session")
def new_trunk(small: Backbone, stock: Path) -> Callable[..., OneTrunk]:
    """Return (*references) → a trunk that has loaded them from the stock."""

    def make(*references: str, host: PluginHost | None = None) -> OneTrunk:
        store, plugins = Store(stock), host or PluginHost.discover()
        resolve = Puller(store, plugins, lambda _: small).resolve
        trunk = OneTrunk(small, store=store, host=plugins, resolve=resolve)
        for reference in references:
            trunk.load(reference)
        return trunk

    return make


Serve = Callable[..., AbstractContextManager[Running]]


@pytest.fixture(scope="session")
def serve(new_trunk: Callable[..., OneTrunk]) -> Serve:
    """Return (access=…, **limits) → a running service of the whole stock."""

    @contextmanager
    def run(access: Access | None = None, **limits: Any) -> Iterator[Running]:
        with running(new_trunk(*ADAPTERS), Limits(**limits), access) as service:
            yield service

    return run


@pytest.fixture(scope="session")
def service(serve: Serve) -> Iterator[Running]:
    """A service without tokens, shared by tests that do not change it."""
    with serve() as running_service:
        yield running_service


class Gate:
    """A plugin whose decoder blocks on texts with the word "hold" until `opened` is set."""

    def __init__(self) -> None:
        self.opened, self.reached = threading.Event(), threading.Event()

    @hookimpl
    def tasks(self) -> list[Any]:
        spec = sentiment.tasks()[0]

        def decode(example: Any, *rest: Any) -> Any:
            if "hold" in example.text:
                self.reached.set()
                assert self.opened.wait(60)
            if "bomb" in example.text:
                raise ValueError(f"boom: {example.text}")
            if "nan" in example.text:
                return {"label": "positive", "score": float("nan")}
            return spec.decode(example, *rest)

        return [replace(spec, decode=decode)]


class Gated:
    """A running service whose device thread `hold` blocks until the gate is opened."""

    def __init__(self, service: Running, gate: Gate) -> None:
        self.service, self.gate = service, gate
        self._pool = ThreadPoolExecutor(16)

    def begin(self, *inputs: Any) -> Future[httpx2.Response]:
        """Begin a request; return its future response."""
        return self._pool.submit(self.service.predict, *inputs)

    def hold(self) -> Future[httpx2.Response]:
        """Begin a request that blocks the device thread."""
        held = self.begin(ask("hold"))
        assert self.gate.reached.wait(30)
        return held

    def queued(self, texts: int) -> bool:
        """Wait until this number of texts is queued; return whether it is."""
        return self.until(lambda: self.service.engine.status().waiting_texts == texts)

    @staticmethod
    def until(condition: Callable[[], bool], seconds: float = 10) -> bool:
        """Wait until a condition holds; return whether it does."""
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            time.sleep(0.01)
        return condition()


@pytest.fixture
def gated(new_trunk: Callable[..., OneTrunk]) -> Iterator[Callable[..., Gated]]:
    """Return (**limits) → a running service of `mood` whose device thread can be blocked."""
    with ExitStack() as stack:

        def make(**limits: Any) -> Gated:
            gate = Gate()
            trunk = new_trunk("mood", host=PluginHost.of(gate))
            service = stack.enter_context(running(trunk, Limits(**limits)))
            stack.callback(gate.opened.set)
            return Gated(service, gate)

        yield make
