"""Transfers that go wrong, by a fault on the way or `kill -9`: all or nothing, and the next try succeeds."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Literal

import pytest

from onetrunk.adapters.store.store import Store
from tests.hub_child import Child, Line
from tests.hub_server import HubServer
from tests.hub_world import REPO, Files, World, done, files_of, is_whole, refused, rubbish

EACH, NORMAL = 50, 5
LASTING = (
    "(the Hub responded with status 500: .*; try later|the Hub cannot be reached|the connection to .* failed)"
)
KINDS = ("500", "429", "drop", "reset", "truncate", "flip", "slow")
SEEDS = [
    pytest.param(seed, marks=() if seed < NORMAL else pytest.mark.slow, id=str(seed)) for seed in range(EACH)
]


class Trouble(World):
    """A world in which one command is troubled."""

    old: Files
    requests: dict[str, int]
    seconds: dict[str, float]
    codes: list[int]

    def measure(self) -> None:
        """Push and pull once without trouble; afterwards all that a command needs is loaded."""
        self.requests, self.seconds, self.codes = {}, {}, []
        done(self.push())
        done(self.pull())
        self.old = files_of(self.hub.repo(REPO))
        lines = {
            "push": ("push", "mood@2", REPO, "--force"),
            "pull": ("pull", REPO, "--backbone", self.backbone),
        }
        for name, home in (("push", self.ada), ("pull", self.bob)):
            before, begin = len(self.hub.requests), time.monotonic()
            self._child.start(*lines[name], home=home, token=self.token, answer=self.bob / "answer")
            self._child.reap()
            done(Line.read(self.bob / "answer"))
            self.requests[name] = len(self.hub.requests) - before
            self.seconds[name] = time.monotonic() - begin

    def kill(self, dice: Random, name: str, *arguments: object, home: Path) -> None:
        """Run a line in a process of its own and kill it at a random moment."""
        pid = self._child.start(*arguments, home=home, token=self.token, answer=home.parent / "answer")
        time.sleep(dice.uniform(0, 1.2 * self.seconds[name]))
        os.kill(pid, signal.SIGKILL)  # it is not reaped before: the pid is still its own
        self.codes.append(self._child.reap())

    def disturb(self, dice: Random, name: str, kind: str) -> None:
        """Let a request of the next command go wrong."""
        most = 3 if kind == "flip" else self.requests[name]
        self.hub.faults.at(dice.randint(1, most), kind, seconds={"slow": 0.2}.get(kind))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def measured(
    hub: HubServer, child: Child, tmp_path_factory: pytest.TempPathFactory, stock: Path, backbone: Path
) -> Iterator[Trouble]:
    world = Trouble(hub, child, tmp_path_factory.mktemp("world"), stock, backbone)
    world.measure()
    yield world
    print(f"killed {world.codes.count(-signal.SIGKILL)} of {len(world.codes)} before their end")


@pytest.fixture
def world(measured: Trouble, tmp_path: Path) -> Iterator[Trouble]:
    measured.bob = tmp_path / "bob"
    yield measured
    measured.hub.faults.clear()


def check_store(store: Path) -> None:
    """Every version that is listed is whole."""
    for stored in Store(store).versions():
        assert stored.read().manifest.task == "sentiment"


def check_branch(world: Trouble, repo: str, old: Files) -> None:
    """The branch has what was there before, or one commit more, a whole one."""
    if repo not in world.hub.repos:
        assert not old
        return
    there = world.hub.repo(repo)
    commits = [commit for commit in there.commits() if commit.title == "mood@2"]
    assert len(commits) <= 1, "one push made two commits"
    assert is_whole(files_of(there)) if commits else files_of(there) == old


def begun(world: Trouble, dice: Random, kind: str, seed: int) -> tuple[str, Files]:
    """Return a repo, in half of the cases one that there is not yet, and its files."""
    repo, old = f"ada/{kind}-{seed}", world.old if dice.random() < 0.5 else {}
    if old:
        world.hub.create_repo(repo).commit(old)
    return repo, old


@pytest.mark.parametrize("seed", SEEDS)
def test_a_push_gets_past_a_fault_with_one_whole_commit(world: Trouble, seed: int) -> None:
    dice = Random(seed)
    repo, old = begun(world, dice, "push-fault", seed)
    world.disturb(dice, "push", KINDS[seed % len(KINDS)])
    done(world.push("--force", ref="mood@2", target=repo))
    check_branch(world, repo, old)
    world.hub.faults.clear()
    done(world.push("--force", ref="mood@2", target=repo))
    check_branch(world, repo, {})


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pull_gets_past_a_fault_with_one_whole_version(world: Trouble, seed: int) -> None:
    dice = Random(1000 + seed)
    repo = f"ada/pull-fault-{seed}"
    world.hub.create_repo(repo).commit(world.old)
    world.disturb(dice, "pull", KINDS[seed % len(KINDS)])
    done(world.pull(repo, "--as", "mood"))
    check_store(world.bob)
    assert rubbish(world.bob) == []
    world.hub.faults.clear()
    assert done(world.pull(repo, "--as", "mood")).json["ref"] == "mood@1"
    check_store(world.bob)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["500", "drop"])
@pytest.mark.parametrize("first", [1, 4, 8])
def test_a_fault_that_stays_is_told_in_words_and_changes_nothing(
    world: Trouble, kind: Literal["500", "drop"], first: int
) -> None:
    repo = f"ada/stays-{kind}-{first}"
    world.hub.create_repo(repo).commit(world.old)
    world.hub.faults.at(first, kind, times=10_000)
    for line in (world.push("--force", ref="mood@2", target=repo), world.pull(repo)):
        refused(line, f"^error: {repo}: {LASTING}")
    assert files_of(world.hub.repo(repo)) == world.old
    assert Store(world.bob).versions() == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_push_has_published_all_or_nothing(world: Trouble, tmp_path: Path, seed: int) -> None:
    dice = Random(2000 + seed)
    repo, old = begun(world, dice, "push-kill", seed)
    world.kill(dice, "push", "push", "mood@2", repo, "--force", home=world.ada)
    check_branch(world, repo, old)
    done(world.push("--force", ref="mood@2", target=repo))
    check_branch(world, repo, {})


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_pull_has_stored_all_or_nothing(world: Trouble, seed: int) -> None:
    dice = Random(3000 + seed)
    repo = f"ada/pull-kill-{seed}"
    world.hub.create_repo(repo).commit(world.old)
    options = ("--as", "mood", "--backbone", world.backbone)
    world.kill(dice, "pull", "pull", repo, *options, home=world.bob)
    check_store(world.bob)
    done(world.pull(repo, "--as", "mood"))
    check_store(world.bob)
    assert len(Store(world.bob).versions()) == 1
    # If the kill came after the version was stored, the second pull changes nothing; the next change cleans up.
    done(world.pull(repo, "--as", "next"))
    assert rubbish(world.bob) == []
