"""A small store, trained once: what the tests of the command line and those of the service read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner

from onetrunk.cli.main import cli
from onetrunk.core.testing import tiny_backbone

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
        end = ("", "!", "?")[offset // 100]  # no text is in two splits
        rows.append({"text": f"the {THINGS[index % 5]} is {words[index // 2 % 4]}{end}", "label": label})
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
    common = ("--backbone", str(backbone), "--epochs", "3", "--precision", "fp32", "--json")
    mood = ("train", "sentiment", "--name", "mood", "--train", str(data / "mood"))
    for line in (
        (*mood, "--lr", "0.01"),
        (*mood, "--from", "mood@1", "--lr", "1e-4"),
        ("train", "ner", "--name", "names", "--train", str(data / "names"), "--lr", "0.01"),
    ):
        done = CliRunner().invoke(cli, [*line, *common], env={"ONETRUNK_HOME": str(root)})
        assert done.exit_code == 0, done.stderr
    return root
