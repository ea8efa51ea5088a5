"""The services that are measured, each a process of its own on a port of the loopback."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil  # PEFT brings it

from benchmarks.equality import Precision
from benchmarks.load.adapters import Stock
from benchmarks.load.outcome import ROOT

START_SECONDS = 120.0
STOP_SECONDS = 60.0


class Service:
    """A service in its own process, from `start` to `stop`.

    name: of the variant. options: of its command. environment: what is set besides that of this process.
    """

    def __init__(self, name: str, line: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, *line, "--port", str(self.port)],
                env={**os.environ, **environment},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self._measured = psutil.Process(self._process.pid)

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_ready(self) -> None:
        """Return when the service answers `/readyz`. Raises RuntimeError when it has ended or takes too long."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                status, _ = self.ask("GET", "/readyz")
            except ConnectionError:  # it does not listen yet
                status = 0
            if status == 200:
                return
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} does not answer on port {self.port}; it said:\n{self._said()}")

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and body of a request; the body is text where it is no JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read().decode()
            is_json = "json" in (response.getheader("Content-Type") or "")
            return response.status, json.loads(text) if is_json else text
        finally:
            connection.close()

    def predict(self, text: str, adapter: str) -> dict[str, Any]:
        """Return the answer of one adapter to one text. Raises RuntimeError where there is none."""
        status, body = self.ask("POST", "/v1/predict", {"inputs": [{"text": text, "adapters": [adapter]}]})
        if status != 200 or "answers" not in body["results"][0]:
            raise RuntimeError(f"{self.name} answers {text!r} with {status}: {body}")
        answer: dict[str, Any] = body["results"][0]["answers"][0]
        return answer

    @property
    def memory(self) -> int:
        """Bytes of memory that the process has now."""
        return int(self._measured.memory_info().rss)

    @property
    def cpu(self) -> float:
        """Seconds of processor time that the process has used."""
        times = self._measured.cpu_times()
        return float(times.user + times.system)

    def stop(self) -> None:
        """End the process as a machine's manager would, by SIGTERM; kill what does not heed it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-2000:]


@dataclass(frozen=True, slots=True)
class Place:
    """Where all services of a call run. backbone: a name or a folder. threads: of torch, in each process."""

    backbone: str
    device: str
    threads: int
    scratch: Path


class Kind:
    """A way to serve the adapters of a stock."""

    precision: Precision = "fp32"
    mixed = True
    """Whether it takes adapters whose heads differ in shape."""
    threads: int | None = None
    """Threads of torch, if not those of everyone."""

    def line(self, stock: Stock) -> list[str]:
        """Return the module of Python that it is, and what it is told besides place and port."""
        raise NotImplementedError

    def start(self, name: str, stock: Stock, place: Place) -> Service:
        """Start it as a process; it may not be ready yet."""
        log = place.scratch / f"{re.sub('[^a-z0-9]+', '-', name)}.log"
        line = ["-m", *self.line(stock), "--backbone", place.backbone, "--device", place.device]
        threads = str(self.threads or place.threads)
        return Service(name, line, {"ONETRUNK_HOME": str(stock.root), "OMP_NUM_THREADS": threads}, log)


class Ours(Kind):
    """`adapters serve`."""

    def __init__(self, precision: Precision = "fp32", *options: str) -> None:
        self.precision = precision
        self._options = options

    def line(self, stock: Stock) -> list[str]:
        """Serve all adapters, with the defaults of everything that is not said."""
        return ["onetrunk.cli.main", "serve", *stock.names, "--precision", self.precision, *self._options]


class Pipelines(Kind):
    """A service around `transformers.pipeline`, a merged model a task.

    locked: one request computes at a time; else as many as the thread pool lets in.
    """

    def __init__(self, locked: bool = False, threads: int | None = None) -> None:
        self._locked, self.threads = locked, threads

    def line(self, stock: Stock) -> list[str]:
        """Serve all adapters."""
        return ["benchmarks.load.peers", "pipelines", *stock.names, *(["--locked"] if self._locked else [])]


class PeftMixed(Kind):
    """A service that runs PEFT's mixed batches, of all requests that wait."""

    mixed = False

    def line(self, stock: Stock) -> list[str]:
        """Serve all adapters."""
        return ["benchmarks.load.peers", "peft", *stock.names]
