"""The commands of the README run in the order in which it lists them, up to the section about sharing."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PEOPLE = ("Ada", "Grace", "Alan", "Marie", "Kurt", "Emmy")
PLACES = ("London", "Paris", "Rome", "Oslo", "Bern", "Kyiv")


def commands(text: str) -> Iterator[str]:
    """Yield the commands of the console blocks, without their comments."""
    for block in re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL):
        for line in re.findall(r"^\$ ((?:.*\\\n)*.*)$", block, flags=re.MULTILINE):
            command = re.sub(r"\s{2,}# .*", "", line)
            if "adapters" in command and not command.startswith(("pip ", "make ")):
                yield command


def conll(people: Iterable[str]) -> str:
    pairs = [(person, place) for person in people for place in PLACES]
    return "".join(f"{person} B-PER\nleft O\n{place} B-LOC\n. O\n\n" for person, place in pairs)


def rows(labels: Mapping[str, Sequence[str]]) -> str:
    made = [
        {"text": f"{word} the {thing}", "label": label}
        for label, words in labels.items()
        for word in words
        for thing in ("film", "book", "table", "train")
    ]
    return "".join(f"{json.dumps(row)}\n" for row in made)


def write_data(folder: Path) -> None:
    for name in ("people", "train", "more"):
        (folder / f"{name}.conll").write_text(conll(PEOPLE))
    for name in ("dev", "test"):
        (folder / f"{name}.conll").write_text(conll(PEOPLE[:2]))
    moods = {"positive": ("I love", "I like", "I enjoy"), "negative": ("I hate", "I detest", "I return")}
    (folder / "reviews.jsonl").write_text(rows(moods))
    intents = {"book": ("please book", "reserve"), "cancel": ("please cancel", "call off")}
    for place in ("data", "support"):
        (folder / place).mkdir()
        for split in ("train", "dev", "test"):
            (folder / place / f"{split}.jsonl").write_text(rows(intents))
    (folder / "texts.txt").write_text("I love the film\nAda left London .\n")
    (folder / "texts.jsonl").write_text(
        '{"text": "I love the film", "id": 1}\n{"text": "Ada left London ."}\n'
    )
    (plan,) = re.findall(r"```toml\n(# plan\.toml.*?)```", README, flags=re.DOTALL)
    (folder / "plan.toml").write_text(plan)


@contextmanager
def serving(command: str, port: int, environment: dict[str, str], folder: Path) -> Iterator[None]:
    line = f"exec {command} --port {port}"
    with subprocess.Popen(["bash", "-c", line], cwd=folder, env=environment) as process:
        try:
            ends, ready = time.monotonic() + 120, False
            while not ready and process.poll() is None and time.monotonic() < ends:
                time.sleep(0.2)
                try:
                    ready = httpx2.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200
                except httpx2.TransportError:
                    continue
            assert ready, "the service is not ready"
            yield
        finally:
            process.terminate()


def run(command: str, environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_commands_run_in_their_order(tmp_path: Path) -> None:
    write_data(tmp_path)
    script = tmp_path / "bin" / "adapters"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m onetrunk.cli.main "$@"\n')
    script.chmod(0o755)
    path = f"{script.parent}:{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": path,
        "ONETRUNK_HOME": str(tmp_path / "store"),
        "no_proxy": "127.0.0.1",
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    before, _, after = README.partition("## Serve\n")
    listed = list(commands(after.partition("## Share\n")[0]))
    first = next(number for number, command in enumerate(listed) if command.startswith("adapters serve"))
    for command in [*commands(before), *listed[:first]]:
        run(command, environment, tmp_path)
    with serving(listed[first], port, environment, tmp_path):
        answers = [
            run(each.replace(":8000", f":{port}"), environment, tmp_path) for each in listed[first + 1 :]
        ]
    assert '"version":"people@' in answers[0].replace(" ", "")
    assert "people@3" in answers[1]
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 5
