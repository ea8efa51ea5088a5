"""Real plugins, as pip would leave them in a folder; a small real backbone, data and a store; command lines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from onetrunk.cli.main import cli
from onetrunk.core.testing import tiny_backbone
from tests.hub_child import Child
from tests.hub_server import HubServer

SOUND = """
from onetrunk.core.hookspecs import CommandSpec, hookimpl
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


GOOD, BAD = ("good", "great", "grace", "love"), ("bad", "awful", "hate", "not")
THINGS = ("film", "book", "table", "flight", "room")


def write_lines(path: Path, records: Iterable[object]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def mood_records(offset: int, count: int) -> list[dict[str, str]]:
    """Return texts with the labels negative and positive, in turn."""
    rows = []
    for index in range(offset, offset + count):
        words, label = ((GOOD, "positive"), (BAD, "negative"))[index % 2]
        rows.append({"text": f"the {THINGS[index % 5]} is {words[index // 2 % 4]}", "label": label})
    return rows


def name_records(count: int) -> list[dict[str, object]]:
    places = ("London", "Paris")
    return [
        {"words": ["Ada", "in", places[i % 2], THINGS[i % 5]], "tags": ["B-PER", "O", "B-LOC", "O"]}
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real small encoder, declared to pool by mean."""
    return tiny_backbone(tmp_path_factory.mktemp("cli") / "tiny", mean_pooling=True)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the folders `mood` (train, dev, test) and `names` (train, dev)."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("mood", "names"):
        (folder / name).mkdir()
    for offset, (split, count) in enumerate([("train", 40), ("dev", 10), ("test", 8)]):
        write_lines(folder / "mood" / f"{split}.jsonl", mood_records(100 * offset, count))
    for split, count in (("train", 20), ("dev", 6)):
        write_lines(folder / "names" / f"{split}.jsonl", name_records(count))
    return folder


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory, backbone: Path, data: Path) -> Path:
    """A store with mood@1, mood@2 (trained on from it) and names@1; only to be read."""
    root = tmp_path_factory.mktemp("stock") / "store"
    common = ("--backbone", str(backbone), "--epochs", "3", "--lr", "0.01", "--precision", "fp32", "--json")
    for line in (
        ("train", "sentiment", "--name", "mood", "--train", str(data / "mood")),
        ("train", "sentiment", "--name", "mood", "--train", str(data / "mood"), "--from", "mood@1"),
        ("train", "ner", "--name", "names", "--train", str(data / "names")),
    ):
        done = CliRunner().invoke(cli, [*line, *common], env={"ONETRUNK_HOME": str(root)})
        assert done.exit_code == 0, done.stderr
    return root


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
