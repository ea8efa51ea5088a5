"""Tokens: in no output, no traceback and no file; and what one without the right one is told of a private repo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from onetrunk.adapters.errors import RemoteError
from onetrunk.adapters.remotes.hub_client import hub_errors
from tests.hub_child import Child, Line
from tests.hub_server import HubServer
from tests.hub_world import REPO, World, done, refused

Way = Literal["variable", "file", "stdin"]
TROUBLES = ("none", "401", "403", "500", "no repo")
COMMANDS = ("push", "pull", "search", "outdated", "update")


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def cwd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cwd")


@pytest.fixture(scope="module")
def child(hub: HubServer, cwd: Path) -> Iterator[Child]:
    process = Child(hub, cwd / "cache", cwd)
    yield process
    process.close()


@pytest.fixture
def world(hub: HubServer, child: Child, tmp_path: Path, stock: Path, backbone: Path) -> Iterator[World]:
    hub.repos.clear()
    yield World(hub, child, tmp_path, stock, backbone)
    hub.faults.clear()


def asked(world: World, way: Way, token: str, folder: Path, *line: object) -> Line:
    """Run a line with this token, and with tracebacks."""
    line = ("--traceback", *line)
    if way == "variable":
        return world.run(*line, home=world.bob, token=token)
    if way == "file":
        (folder / "token").write_text(token + "\n")
        return world.run(*line, "--token", folder / "token", home=world.bob, token=None)
    return world.run(*line, "--token", "-", home=world.bob, token=None, input=token + "\n")


def troubled(world: World, trouble: str) -> tuple[str, str]:
    """Return a token and a repo with which every command is in this trouble."""
    if trouble == "403":
        return world.hub.add_user("reader", "read"), REPO
    if trouble == "500":
        world.hub.faults.at(1, "500", times=10_000)
    return (
        "hf_nobodys_token" if trouble == "401" else world.token,
        "ada/none" if trouble == "no repo" else REPO,
    )


def lines(world: World, repo: str) -> dict[str, tuple[Any, ...]]:
    backbone = ("--backbone", world.backbone)
    return {
        "push": ("push", "mood@2", repo, "--force"),
        "pull": ("pull", repo, "--as", "other", *backbone),
        "search": ("search", "--task", "sentiment"),
        "outdated": ("outdated",),
        "update": ("update", *backbone),
    }


@pytest.mark.parametrize("way", ["variable", "file", "stdin"])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_token_is_in_no_output_and_in_no_file(
    world: World, cwd: Path, tmp_path: Path, way: Way, trouble: str
) -> None:
    done(world.push())
    done(world.pull())
    token, repo = troubled(world, trouble)
    commands = ("push",) if trouble == "500" else COMMANDS  # there each waits between its tries
    for name in commands:
        line = asked(world, way, token, tmp_path, *lines(world, repo)[name])
        assert token not in line.out + line.err, name
    (tmp_path / "token").unlink(missing_ok=True)
    for path in [*tmp_path.rglob("*"), *cwd.rglob("*")]:
        assert not path.is_file() or token.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("token", ["hf_\x1b[2Jx", "", "two words", "ünicode", "a\nb"])
def test_what_is_no_token_is_refused_without_saying_it(world: World, tmp_path: Path, token: str) -> None:
    line = world.run("pull", REPO, "--token", "-", home=world.bob, token=None, input=token)
    refused(line, "error: --token -: expected a single line with the token")


def test_a_token_is_no_argument(world: World) -> None:
    line = world.run("push", "mood@1", REPO, "--token", "hf_secret")
    refused(line, "--token expects the name of a file")
    assert "hf_secret" not in line.out + line.err


@pytest.mark.parametrize("known", ["given", "in the environment"])
def test_a_token_that_a_server_says_back_is_not_repeated(known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret" if known == "in the environment" else "")
    with (
        pytest.raises(RemoteError, match=r"^ada/mood: no such token as …$"),
        hub_errors("ada/mood", "hf_secret" if known == "given" else None),
    ):
        raise OSError("no such token as hf_secret")


def test_letters_that_no_token_has_are_named(world: World) -> None:
    refused(
        world.pull(token="hf_ünicode"),
        "the token has characters that are not allowed in a token; check HF_TOKEN",
    )


@pytest.mark.parametrize("who", ["nobody", "a stranger", "an unknown token"])
@pytest.mark.parametrize("command", ["pull", "push"])
def test_a_private_repo_is_told_of_as_one_that_is_not_there(world: World, who: str, command: str) -> None:
    done(world.push("--private"))
    token = {"nobody": None, "a stranger": world.hub.add_user("eve"), "an unknown token": "hf_none"}[who]
    told = []
    for repo in (REPO, "ada/none"):
        line = (
            world.pull(repo, token=token)
            if command == "pull"
            else world.run("push", "mood@2", repo, token=token)
        )
        told.append(refused(line, "error: .*token").err.replace(repo, "REPO"))
    assert told[0] == told[1]


def test_the_owner_of_a_private_repo_pulls_it(world: World) -> None:
    done(world.push("--private"))
    assert world.hub.repo(REPO).private
    assert done(world.pull()).json["ref"] == "mood@1"
