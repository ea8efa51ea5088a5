"""A process that runs `adapters` lines against a Hub on loopback; this one is offline, for good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hub_server import HubServer

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Line:
    """What a line came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed with --json."""
        return json.loads(self.out.splitlines()[-1])


class Child:
    """Runs one line after the other in a process that has loaded everything once."""

    def __init__(self, hub: HubServer, cache: Path, **environment: str) -> None:
        own = hub.environment(cache=cache)
        own.pop("HF_HUB_DISABLE_IMPLICIT_TOKEN", None)  # each line has a token of its own, in HF_TOKEN
        own |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hub_child"],
            env=own,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def __call__(self, *arguments: object, home: Path, token: str | None = None, **environment: str) -> Line:
        """Run `adapters` with `arguments` on the store `home`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {
            "arguments": [str(each) for each in arguments],
            "environment": {
                "ONETRUNK_HOME": str(home),
                "HF_TOKEN": token or "",
                "COLUMNS": "200",
                **environment,
            },
        }
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the child has died"
        return Line(**json.loads(answer))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def serve() -> None:
    """Answer orders from stdin until it ends."""
    from click.testing import CliRunner

    from onetrunk.cli.main import cli

    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        order = json.loads(line)
        os.environ.update(order["environment"])
        result = CliRunner().invoke(cli, order["arguments"])
        err = result.stderr
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            err += f"\nunexpected: {result.exception!r}"
        answers.write(json.dumps({"code": result.exit_code, "out": result.stdout, "err": err}) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
