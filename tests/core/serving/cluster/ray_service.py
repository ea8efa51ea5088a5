"""The service on a Ray cluster of its own on this machine: docs/ray.yaml under `serve run`, with two replicas."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx2
import psutil
import pytest
import yaml

from tests.core.serving.conftest import ADAPTERS

ROOT = Path(__file__).resolve().parents[4]
LINE = [str(Path(sys.executable).with_name("serve")), "run"]
REPLICAS = 2
QUEUE = 512
"""Tokens that may wait in a replica, fast enough for them or not known to be too slow."""
START_SECONDS = 120


class RayService:
    """A running `serve run`. Listens on loopback, except for one port of each replica, which Ray guards by a token.

    client: sends requests to it.
    store: its own copy of a store.
    folder: for its configuration files.
    tokens: a token file.
    max_loaded: `max_loaded_versions` of docs/ray.yaml.
    trunk: options of the deployment Trunk.
    adapters: references; None: every adapter of the store.
    limits: those of serve.toml.
    """

    def __init__(
        self,
        folder: Path,
        stock: Path,
        backbone: Path,
        *,
        tokens: Path | None = None,
        max_loaded: int = 256,
        trunk: Mapping[str, Any] = MappingProxyType({}),
        adapters: Sequence[str] | None = ADAPTERS,
        limits: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self.store = shutil.copytree(stock, folder / "store")
        self.port = _free_port()
        self._folder, self._temporary = (
            folder,
            Path(tempfile.mkdtemp(prefix="ray")),
        )  # a socket's path is short
        self._log = (folder / "log").open("w+b")
        self._write_toml(backbone, tokens, adapters, limits)
        self._write_yaml(max_loaded, trunk)
        self.process = subprocess.Popen(
            [*LINE, str(folder / "ray.yaml")],
            env={**os.environ, **self._environment()},
            cwd=folder,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx2.Client(base_url=self.url, timeout=30, trust_env=False)
        self.until(lambda: self._ready() or self._failed(), START_SECONDS)
        if not self._ready():
            said = self.said()
            self.end()
            pytest.fail(f"it did not start: {said[-8000:]}")

    def predict(self, *inputs: Any, **options: Any) -> httpx2.Response:
        """POST inputs to /v1/predict."""
        return self.client.post("/v1/predict", json={"inputs": list(inputs)}, **options)

    def workers(self, deployment: str) -> list[psutil.Process]:
        """Return the processes of a deployment."""
        name = f"ray::ServeReplica:onetrunk:{deployment}"
        family = psutil.Process(self.process.pid).children(recursive=True)
        return [each for each in family if name in _line(each)]

    def said(self) -> str:
        """Return what stood on the terminal so far."""
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")

    @staticmethod
    def until(condition: Callable[[], bool], seconds: float = 60) -> bool:
        """Wait until a condition holds, and tell whether it does."""
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            time.sleep(0.2)
        return condition()

    def end(self) -> None:
        """End it, and all processes of its cluster."""
        self.client.close()
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs([psutil.Process(self.process.pid), *family], timeout=60)
        for each in left:
            each.kill()
        self.process.wait()
        self._log.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _ready(self) -> bool:
        try:
            return self.client.get("/readyz", timeout=2).status_code == 200 and self.has_all_replicas()
        except httpx2.TransportError:
            return False

    def _failed(self) -> bool:
        return self.process.poll() is not None or "Failed to update the deployments" in self.said()

    def has_all_replicas(self) -> bool:
        """Tell whether every replica has been heard of."""
        return len(self.workers("Trunk")) == REPLICAS

    def _write_toml(
        self,
        backbone: Path,
        tokens: Path | None,
        adapters: Sequence[str] | None,
        limits: Mapping[str, float],
    ) -> None:
        lines = [f'backbone = "{backbone}"', 'device = "cpu"', 'precision = "fp32"', f"max_queue = {QUEUE}"]
        lines += [f'token_file = "{tokens}"'] if tokens else []
        lines += ["[limits]", *(f"{name} = {value}" for name, value in limits.items())]
        lines += ["[adapters]", *(f'"{name}" = "{name}"' for name in adapters)] if adapters else []
        (self._folder / "serve.toml").write_text("\n".join(lines), encoding="utf-8")

    def _write_yaml(self, max_loaded: int, trunk: Mapping[str, Any]) -> None:
        """Write the file of the documentation, for a small machine."""
        settings = yaml.safe_load((ROOT / "docs" / "ray.yaml").read_text(encoding="utf-8"))
        settings["http_options"]["port"] = self.port
        (application,) = settings["applications"]
        application["args"] |= {"config": str(self._folder / "serve.toml"), "max_loaded_versions": max_loaded}
        for deployment in application["deployments"]:
            deployment["ray_actor_options"]["num_cpus"] = 0.1
            if deployment["name"] == "Trunk":
                deployment["autoscaling_config"] |= {"min_replicas": REPLICAS, "max_replicas": REPLICAS}
                deployment |= trunk
        (self._folder / "ray.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")

    def _environment(self) -> dict[str, str]:
        return {
            "ONETRUNK_HOME": str(self.store),
            "RAY_TMPDIR": str(self._temporary),
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the node's address is 127.0.0.1
        }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _line(process: psutil.Process) -> str:
    """Return the command line of a process; "" for one that has ended."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
