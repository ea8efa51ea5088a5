"""Real plugins, as pip would leave them in a folder; a small real backbone, data and a store; command lines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from onetrunk.cli.main import cli
from tests import stock as trained
from tests.hub_child import Child
from tests.hub_server import HubServer

backbone, data, stock = trained.backbone, trained.data, trained.stock

SOUND = """
from onetrunk.core.tasks.hookspecs import CommandSpec, hookimpl
from onetrunk.core.tasks import Example, TaskSpec

def _unused(*args):
    raise NotImplementedError

@hookimpl
def tasks():
    return [TaskSpec(name="task-{name}", summary="A task of {name}", level="text", read=Example,
                     labels=("no", "yes"), targets=_unused, make_head=_unused, loss=_unused,
                     decode=_unused, evaluate=_unused, primary="accuracy")]

@hookimpl
def commands():
    return [CommandSpec("do-{name}", "{name}_command:command", "Does what {name} does")]
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


class Site:
    """A folder on `sys.path` with distributions of version 1.2; `NAME-dist` holds the plugin `NAME`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, name: str, source: str = SOUND, command: str | None = None) -> None:
        """Add a plugin: the text of its module, and that of the module of its command."""
        about = self.folder / f"{name}_dist-1.2.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-dist\nVersion: 1.2\n")
        (about / "entry_points.txt").write_text(f"[onetrunk.plugins]\n{name} = {name}\n")
        (self.folder / f"{name}.py").write_text(source.replace("{name}", name))
        if command is not None:
            text = "import click\n@click.command()\ndef command():\n    " + command.replace("\n", "\n    ")
            (self.folder / f"{name}_command.py").write_text(text)

    def environment(self, **extra: str) -> dict[str, str]:
        """Return the variables for a process that finds these distributions."""
        return {**os.environ, "PYTHONPATH": str(self.folder), "COLUMNS": "100", **extra}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    folder = tmp_path / "site"
    folder.mkdir()
    return Site(folder)


@pytest.fixture
def adapters(site: Site) -> Run:
    """Run `adapters` with arguments and environment variables, as a process of its own."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "onetrunk.cli.main", *arguments]
        # Bytes that are not UTF-8 must reach the assertion, not stop the reading.
        return subprocess.run(
            line,
            env=site.environment(**environment),
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=60,
        )

    return run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the store of this test, which is not there yet."""
    root = tmp_path / "home"
    monkeypatch.setenv("ONETRUNK_HOME", str(root))
    monkeypatch.setenv("COLUMNS", "120")
    return root


@pytest.fixture
def stocked(stock: Path, home: Path) -> Path:
    """A store of this test's own, with what `stock` has."""
    shutil.copytree(stock, home)
    return home


@pytest.fixture
def run(home: Path) -> Callable[..., Result]:
    """Run `adapters` in this process, which has torch in memory already."""

    def call(*arguments: object, input: str | bytes | None = None) -> Result:
        return CliRunner().invoke(cli, [str(each) for each in arguments], input=input)

    return call


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    """A Hub on loopback."""
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def child(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """A process that runs `adapters` lines against the Hub."""
    process = Child(hub, tmp_path_factory.mktemp("cache"))
    yield process
    process.close()
