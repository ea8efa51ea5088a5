"""A process that uses OneTrunk as a library, and prints which settings of the process each act has changed."""

from __future__ import annotations

import csv
import gc
import json
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import torch
from huggingface_hub.utils.tqdm import are_progress_bars_disabled
from transformers.utils import logging as transformers_logging

from onetrunk.adapters.remotes.hub_search import search
from onetrunk.adapters.store.store import Store
from onetrunk.core import OneTrunk
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.data.splits import Splits
from onetrunk.core.data.training_data import read_train_data
from onetrunk.core.interop.export import export_adapter
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.serving.engine.engine import Engine
from onetrunk.core.serving.http.app import App
from onetrunk.core.serving.http.server import Server
from onetrunk.core.serving.http.sockets import listen, url_of
from onetrunk.core.training.job import TrainJob
from onetrunk.core.training.pipeline import train_adapter
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.trunk.build import trunk_of

LOGGERS = ("", "huggingface_hub", "transformers", "onetrunk", "uvicorn", "py.warnings")


def settings() -> dict[str, Any]:
    """Return what belongs to the process, by name."""
    logs = [(logging.getLogger(each).level, len(logging.getLogger(each).handlers)) for each in LOGGERS]
    return {
        "switch interval": sys.getswitchinterval(),
        "torch threads": torch.get_num_threads(),
        "torch dtype": str(torch.get_default_dtype()),
        "torch grad": torch.is_grad_enabled(),
        "torch generator": torch.get_rng_state().tolist(),
        "numpy generator": str(np.random.get_state()),
        "frozen objects": gc.get_freeze_count(),
        "gc thresholds": gc.get_threshold(),
        "csv limit": csv.field_size_limit(),
        "loggers": dict(zip(LOGGERS, logs, strict=True)),
        "hub bars": are_progress_bars_disabled(),
        "transformers bars": transformers_logging.is_progress_bar_enabled(),
        "transformers verbosity": transformers_logging.get_verbosity(),
        "warnings": str(warnings.showwarning),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "signals": [str(signal.getsignal(each)) for each in (signal.SIGINT, signal.SIGTERM)],
        "environment": dict(os.environ),
        "folder": os.getcwd(),
    }


class Library:
    """The acts, in their order."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._host, self._store = folder, PluginHost.discover(), Store(folder / "store")
        self._backbone = Backbone.load(folder / "bert", device="cpu", dtype="fp32")

    def train(self) -> None:
        """Read a table and train on it."""
        spec = self._host.task("sentiment")
        data = read_train_data(spec, Splits(self._folder / "mood.csv"), seed=0)
        job = TrainJob("sentiment", "mood", data, TrainSettings(epochs=2))
        train_adapter(self._host, self._store, job, self._backbone)

    def predict(self) -> None:
        """Predict enough text for several threads."""
        trunk = OneTrunk(self._backbone, store=self._store)
        trunk.load("mood")
        trunk.predict(["good film " * 20] * 64, ["mood"])

    def export(self) -> None:
        """Export a model of transformers."""
        stored, spec = self._store.resolve("mood"), self._host.task("sentiment")
        folder = self._folder / "exported"
        export_adapter(stored, spec, self._backbone, "merged", folder)

    def load_padded(self) -> None:
        """Load an encoder that transformers runs."""
        trunk_of(Backbone.load(self._folder / "deberta", device="cpu", dtype="fp32"))

    def search(self) -> None:
        """Ask the Hub."""
        search(None, None, None, 5)

    def serve(self) -> None:
        """Serve a request over HTTP, and end."""
        trunk = OneTrunk(self._backbone, store=self._store)
        trunk.load("mood")
        engine, started = Engine(trunk), threading.Event()
        sockets = listen("127.0.0.1", 0, loopback_only=True)

        async def on_start() -> None:
            started.set()

        server = Server(App(engine), on_start)
        thread = threading.Thread(target=server.run, args=(sockets,))
        thread.start()
        assert started.wait(30)
        body = {"inputs": [{"text": "good film", "adapters": ["mood"]}]}
        answer = httpx2.post(f"{url_of('127.0.0.1', sockets)}/v1/predict", json=body, trust_env=False)
        assert answer.status_code == 200
        during.update(settings())
        server.should_exit = True
        thread.join(30)
        engine.close()


during: dict[str, Any] = {}


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name in before if before[name] != after[name]]


def main(folder: Path) -> None:
    """Print the names of the settings that each act has changed."""
    before = settings()
    library = Library(folder)
    report = {"load": changed(before, settings())}
    acts: dict[str, Callable[[], None]] = {
        act.__name__: act
        for act in (
            library.train,
            library.predict,
            library.export,
            library.load_padded,
            library.search,
            library.serve,
        )
    }
    for name, act in acts.items():
        before = settings()
        act()
        report[name] = changed(before, settings())
    report["while serving"] = changed(before, during)
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
