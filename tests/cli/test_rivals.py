"""Two pushes to one branch at once, from two processes: the branch always holds one of them, whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_child import Child, Line
from tests.hub_server import HubServer
from tests.hub_world import Files, World, files_of, is_whole

ROUNDS = 10
CONFLICT = r"^error: .*(another push was faster|has moved to|is locked by another push)"


class Rivals(World):
    """A world with two processes at once."""

    def push_both(self, target: str, folder: Path, refs: tuple[str, str]) -> list[Line]:
        """Push two versions to one branch at the same time."""
        answers = [folder / f"answer-{number}" for number in range(2)]
        for ref, answer in zip(refs, answers, strict=True):
            line = ("push", ref, target, "--force", "--json")
            self._child.start(*line, home=self.ada, token=self.token, answer=answer)
        assert [self._child.reap() for _ in answers] == [0, 0]
        return [Line.read(answer) for answer in answers]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, stock: Path, backbone: Path) -> Iterator[Rivals]:
    with HubServer() as hub:
        child = Child(hub, tmp_path_factory.mktemp("cache"))
        world = Rivals(hub, child, tmp_path_factory.mktemp("world"), stock, backbone)
        world.push(target="ada/warm")  # loads everything, so that forks begin at once
        yield world
        child.close()


def in_folder(folder: Path) -> tuple[Files, int]:
    """Return the files of the branch, and how many commits there are."""
    head = json.loads((folder / "refs.json").read_bytes())["branches"]["main"]
    commits = list((folder / "commits").iterdir())
    return {path.name: path.read_bytes() for path in commits[0].parent.joinpath(head).glob("[!.]*")}, len(
        commits
    )


def winners(lines: list[Line]) -> int:
    """Return how many published, and assert that each of the others says why it has not."""
    won = 0
    for line in lines:
        assert line.code == 0 or re.search(CONFLICT, line.err), line.err
        won += line.code == 0 and not line.json["unchanged"]
    return won


@pytest.mark.parametrize("turn", range(ROUNDS))
def test_one_version_pushed_twice_to_a_folder_is_one_commit(world: Rivals, tmp_path: Path, turn: int) -> None:
    shared = tmp_path / "shared"
    assert winners(world.push_both(shared.as_uri(), tmp_path, ("mood@1", "mood@1"))) == 1
    files, commits = in_folder(shared)
    assert is_whole(files)
    assert commits == 1


@pytest.mark.parametrize("turn", range(ROUNDS))
def test_two_versions_pushed_to_a_folder_leave_one_whole(world: Rivals, tmp_path: Path, turn: int) -> None:
    shared = tmp_path / "shared"
    won = winners(world.push_both(shared.as_uri(), tmp_path, ("mood@1", "mood@2")))
    files, commits = in_folder(shared)
    assert is_whole(files)
    assert won == commits


@pytest.mark.parametrize("refs", [("mood@1", "mood@1"), ("mood@1", "mood@2")], ids=" ".join)
@pytest.mark.parametrize(
    "request_", ["POST .*/commit/", "POST /api/repos/create", "GET /api/models", "PUT /"]
)
def test_two_pushes_to_a_repo_leave_one_whole(
    world: Rivals, tmp_path: Path, refs: tuple[str, str], request_: str
) -> None:
    target = f"ada/r{len(world.hub.repos)}"
    world.hub.faults.at(1, "slow", match=request_, seconds=0.3)  # the other overtakes
    won = winners(world.push_both(target, tmp_path, refs))
    world.hub.faults.clear()
    repo = world.hub.repo(target)
    pushed = [commit for commit in repo.commits() if commit.title.startswith("mood@")]
    assert is_whole(files_of(repo))
    assert won == len(pushed)
    assert len(pushed) == 1 or refs[0] != refs[1]
