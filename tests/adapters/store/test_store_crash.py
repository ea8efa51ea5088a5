"""The store with real processes: many at once, and killed at random moments.

Run as a program, this file forks a worker for each line it reads, so that torch is imported only once.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from onetrunk.adapters.errors import ArtifactError, StoreError
from onetrunk.adapters.format.artifact import read_artifact
from onetrunk.adapters.store.store import Store

KILLS = 30


def note(log: Path, *words: object) -> None:
    """Append a line to the log in one write, which a kill cannot split."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    os.close(descriptor)


def add(store: Store, sample: Path, log: Path) -> None:
    """Add one version and note it after."""
    stored = store.add("ner", lambda folder: shutil.copytree(sample, folder, dirs_exist_ok=True))
    note(log, "added", stored.version)


def hammer(store: Store, sample: Path, log: Path) -> None:
    """Add, alias and remove for ever; note what is about to be removed before, what was added after."""
    dice = random.Random(os.getpid())
    while True:
        add(store, sample, log)
        versions = store.versions("ner")
        with suppress(StoreError):  # another worker may have removed the version in between
            store.alias("ner", dice.choice(["prod", "beta"]), dice.choice(versions).version)
        if len(versions) > 3:
            doomed = dice.choice(versions)
            note(log, "removing", doomed.version)
            with suppress(StoreError):
                store.remove(doomed.ref, force=True)


def serve(sample: Path) -> None:
    """Fork a worker for each line `hammer|N, root, log` of stdin and print its pid; `reap` waits for one's end."""
    import torch

    torch.set_num_threads(1)
    read_artifact(sample)  # imports what the workers need
    for line in sys.stdin:
        work, *paths = line.strip().split("\t")
        if work == "reap":
            print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
        elif pid := os.fork():
            print(pid, flush=True)
        else:
            labour(work, sample, *map(Path, paths))
            os._exit(0)


def labour(work: str, sample: Path, root: Path, log: Path) -> None:
    """Do what a line asks for: add as many versions as it says, or hammer."""
    store = Store(root, lock_seconds=20)
    if work == "hammer":
        hammer(store, sample, log)
    for _ in range(int(work)):
        add(store, sample, log)


class Nursery:
    """The program below, started; `ask` gives it a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, work: str, *paths: Path) -> int:
        """Return the pid of a new worker or, to `reap`, the exit code of one that ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\t".join([work, *map(str, paths)]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    @contextmanager
    def hammering(self, root: Path, log: Path) -> Iterator[None]:
        """Have a worker change the store meanwhile; at the end it is killed, and dead when this returns."""
        pid = self.ask("hammer", root, log)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGKILL)
            assert self.ask("reap") == -signal.SIGKILL


def logged(log: Path) -> tuple[list[int], set[int]]:
    """Return the numbers noted as added, and those noted as being removed."""
    words = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [int(n) for verb, n in words if verb == "added"], {
        int(n) for verb, n in words if verb == "removing"
    }


def check(store: Store, log: Path) -> None:
    """Check every law of the store after a kill."""
    versions = store.versions()
    for each in versions:
        read_artifact(each.path)
    visible = {each.version for each in versions}
    index = store.root / "ner" / "adapter.json"
    aliases = json.loads(index.read_text())["aliases"] if index.exists() else {}
    assert set(aliases.values()) <= visible
    assert all(store.resolve(f"ner@{alias}").version == number for alias, number in aliases.items())
    added, removing = logged(log)
    assert len(set(added)) == len(added), "a number was given twice"
    assert set(added) - removing <= visible, "what was stored is gone"


@pytest.fixture(scope="module")
def nursery(sample: Path) -> Iterator[Nursery]:
    command = [sys.executable, __file__, str(sample)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Nursery(process)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_processes_adding_at_once_get_different_versions(store: Store, nursery: Nursery, log: Path) -> None:
    for _ in range(4):
        nursery.ask("5", store.root, log)
    assert [nursery.ask("reap") for _ in range(4)] == [0, 0, 0, 0]
    assert sorted(logged(log)[0]) == [each.version for each in store.versions("ner")] == list(range(1, 21))
    check(store, log)


def test_a_kill_at_any_moment_leaves_a_sound_store(
    store: Store, nursery: Nursery, sample: Path, log: Path
) -> None:
    for _ in range(KILLS):
        with nursery.hammering(store.root, log):
            time.sleep(random.uniform(0, 0.15))
        check(store, log)
    assert logged(log)[0], "the workers never got anything done"
    add(store, sample, log)
    check(store, log)


def test_the_rubbish_of_killed_processes_is_deleted_by_the_next_change(
    store: Store, nursery: Nursery, sample: Path, log: Path
) -> None:
    for _ in range(8):
        with nursery.hammering(store.root, log):
            time.sleep(random.uniform(0.01, 0.1))
    add(store, sample, log)
    assert list((store.root / ".staging").iterdir()) == []
    folders = {int(path.name) for path in (store.root / "ner").iterdir() if path.is_dir()}
    assert folders == {each.version for each in store.versions("ner")}


def test_a_reader_sees_a_sound_store_while_others_change_it(
    store: Store, nursery: Nursery, sample: Path, log: Path
) -> None:
    add(store, sample, log)
    looks = 0
    with nursery.hammering(store.root, log):
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            newest = store.resolve("ner")  # there is at least one version at any time
            try:
                read_artifact(newest.path)
            except ArtifactError:
                assert newest.ref not in [each.ref for each in store.versions()], "listed, but not sound"
            looks += 1
    assert looks > 20
    check(store, log)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
