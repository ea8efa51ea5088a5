"""Runs `adapters serve` in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

LINE = [sys.executable, "-m", "onetrunk.cli.main", "serve"]


class Process:
    """A running `adapters serve`. said: the lines of its stdout until it serves."""

    def __init__(self, *arguments: object, store: Path) -> None:
        self._environment = {**os.environ, "ONETRUNK_HOME": str(store), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [*LINE, "--port", "0", *map(str, arguments)],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.strip())
            if line.startswith("serving at "):
                break
        else:
            pytest.fail(f"it ended: {self.said}, {self.process.communicate()[1]}")
        self.url = self.said[-1].removeprefix("serving at ").partition(",")[0]
        self.client = httpx2.Client(base_url=self.url, timeout=30, trust_env=False)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit code and stderr."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=60)
        self.client.close()
        return self.process.returncode, errors
