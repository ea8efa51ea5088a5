"""A process that runs `adapters` lines against a Hub on loopback; this one is offline, for good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
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

    @classmethod
    def read(cls, answer: Path) -> Line:
        """Read what a fork has left."""
        return cls(**json.loads(answer.read_text(encoding="utf-8")))


class Child:
    """Runs one line after the other in a process that has loaded everything once."""

    def __init__(self, hub: HubServer, cache: Path, cwd: Path = ROOT, **environment: str) -> None:
        own = hub.environment(cache=cache)
        own.pop("HF_HUB_DISABLE_IMPLICIT_TOKEN", None)  # each line has a token of its own, in HF_TOKEN
        own |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hub_child"],
            env=own,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def __call__(
        self,
        *arguments: object,
        home: Path,
        token: str | None = None,
        input: str | None = None,
        **environment: str,
    ) -> Line:
        """Run `adapters` with `arguments` on the store `home`."""
        return Line(**self._ask(_order(arguments, home, token, environment) | {"input": input}))

    def start(
        self, *arguments: object, home: Path, answer: Path, token: str | None = None, **environment: str
    ) -> int:
        """Run a line in a fork of the process, and return its pid at once; what it came to goes to `answer`."""
        order = _order(arguments, home, token, environment) | {"answer": str(answer)}
        return int(self._ask(order)["pid"])

    def reap(self) -> int:
        """Wait for the end of one of the forks, and return its exit code; that of a signal is negative."""
        return int(self._ask({"reap": True})["code"])

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the child has died"
        return dict(json.loads(answer))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def _order(
    arguments: Sequence[object], home: Path, token: str | None, environment: dict[str, str]
) -> dict[str, Any]:
    own = {"ONETRUNK_HOME": str(home), "HF_TOKEN": token or "", "COLUMNS": "200"}
    return {"arguments": [str(each) for each in arguments], "environment": {**own, **environment}}


def serve() -> None:
    """Answer orders from stdin until it ends."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        order = json.loads(line)
        if order.get("reap"):
            answer = {"code": os.waitstatus_to_exitcode(os.wait()[1])}
        elif "answer" not in order:
            answer = carry_out(order)
        elif pid := os.fork():
            answer = {"pid": pid}
        else:
            Path(order["answer"]).write_text(json.dumps(carry_out(order)), encoding="utf-8")
            os._exit(0)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def carry_out(order: dict[str, Any]) -> dict[str, Any]:
    """Run a line in this process."""
    from click.testing import CliRunner

    from onetrunk.cli.main import cli

    os.environ.update(order["environment"])
    result = CliRunner().invoke(cli, order["arguments"], input=order.get("input"))
    err = result.stderr
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        err += "\nunexpected: " + "".join(traceback.format_exception(result.exception))
    return {"code": result.exit_code, "out": result.stdout, "err": err}


if __name__ == "__main__":
    serve()
