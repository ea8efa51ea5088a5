"""Hostile artifacts on the Hub and in shared folders: refused in words, and the store is as it was."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from onetrunk.adapters.store.store import Store
from tests.hostile import CASES
from tests.hostile_edits import CONFIG, MODEL, TASK, Case, Files, pickled, sealed, task
from tests.hub_child import Child
from tests.hub_server import HubServer
from tests.hub_world import REPO, World, done, refused, rubbish

EVERY = [
    pytest.param(case, id=f"{kind}-{case}".replace(" ", "_"))
    for kind, cases in CASES.items()
    for case in cases
]


@pytest.fixture(scope="module")
def world(
    hub: HubServer, child: Child, tmp_path_factory: pytest.TempPathFactory, stock: Path, backbone: Path
) -> World:
    """One for all tests: what is hostile leaves no trace."""
    return World(hub, child, tmp_path_factory.mktemp("world"), stock, backbone)


@pytest.fixture(scope="module")
def sound(world: World) -> Files:
    """The files of an adapter that can be pulled."""
    done(world.push())
    done(world.pull())
    done(world.run("remove", "mood", "--all", "--yes", home=world.bob))
    files = world.hub.repo(REPO).files()
    return {name: data for name, data in files.items() if not name.startswith(".")}


def published(world: World, files: Files) -> str:
    """Return a new repo with these files."""
    repo = f"ada/case-{len(world.hub.repos)}"
    world.hub.create_repo(repo).commit(files)
    return repo


@pytest.mark.parametrize("case", EVERY)
def test_a_hostile_artifact_is_refused_in_words(
    world: World, sound: Files, case: Case, tmp_path: Path
) -> None:
    files = dict(sound)
    case.edit(files)
    world.bob = tmp_path
    repo = published(world, sealed(files) if case.sealed else files)
    refused(world.pull(repo), case.reason)
    assert Store(world.bob).versions() == []
    assert rubbish(world.bob) == []


def test_no_pickle_was_opened(world: World, sound: Files, tmp_path: Path) -> None:
    flag = tmp_path / "opened"
    files = sealed({**sound, MODEL: pickled(flag)})
    world.bob = tmp_path / "bob"
    refused(world.pull(published(world, files)), "is not a safetensors file")
    assert not flag.exists()


def test_no_message_shows_the_folder_of_the_check(world: World, sound: Files, tmp_path: Path) -> None:
    world.bob = tmp_path
    repo = published(world, {**sound, MODEL: b"x"})
    told = refused(world.pull(repo), rf"^error: {repo}: adapter_model.safetensors has 1 bytes")
    assert ".staging" not in told.err


def test_files_that_are_none_of_the_format_are_never_downloaded(
    world: World, sound: Files, tmp_path: Path
) -> None:
    world.bob = tmp_path
    strangers = ("setup.py", "adapter_model.bin", "model.pkl", "sub/task.json", "..x", "conftest.py")
    repo = published(world, {**sound, **dict.fromkeys(strangers, b"import os\n")})
    done(world.pull(repo))
    asked = [line.partition("/resolve/")[2] for line in world.hub.asked(f"{repo}/resolve/")]
    assert asked
    assert not [line for line in asked if line.partition("/")[2] not in sound]
    assert {path.name for path in (tmp_path / repo.partition("/")[2] / "1").iterdir()} == sound.keys()


def test_files_that_are_too_large_are_not_even_asked_for(world: World, sound: Files, tmp_path: Path) -> None:
    world.bob = tmp_path
    repo = published(world, {**sound, CONFIG: b" " * (2**24 + 1)})
    refused(world.pull(repo), f"{CONFIG} has 16777217 bytes, at most 16777216 are allowed")
    assert not world.hub.asked(f"{repo}/resolve/{world.hub.repo(repo).head()}/{CONFIG}")


@pytest.mark.parametrize("command", [("show",), ("list",), ("predict", "good film")], ids=" ".join)
def test_escape_sequences_in_labels_are_shown_and_not_obeyed(
    world: World, sound: Files, tmp_path: Path, command: tuple[str, ...]
) -> None:
    world.bob = tmp_path
    files = dict(sound)
    task(labels=["\x1b]0;owned\x07", "\u202egood\r"])(files)
    done(world.pull(published(world, sealed(files)), "--as", "loud"))
    first, *rest = command
    options = ("--backbone", world.backbone) if first == "predict" else ()
    ref = () if first == "list" else ("loud",)
    line = done(world.run(first, *ref, *rest, *options, home=tmp_path))
    assert not set(line.out + line.err) & set("\x1b\x07\r\u202e")


def folder_remote(folder: Path, world: World) -> tuple[str, Path]:
    """Publish to a shared folder; return its URL, and the folder of the commit."""
    target = folder / "shared"
    commit = done(world.push(target=target.as_uri())).json["commit"]
    return target.as_uri(), target / "commits" / commit


def link(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


def pipe(path: Path, _target: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path, _target: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (link, "is a link, a regular file was expected"),
        (pipe, "is not a regular file"),
        (directory, "is not a regular file"),
    ],
)
@pytest.mark.parametrize("name", [TASK, MODEL])
def test_a_shared_folder_has_no_way_out(
    world: World, tmp_path: Path, name: str, change: Callable[[Path, Path], None], reason: str
) -> None:
    world.bob = tmp_path / "bob"
    url, commit = folder_remote(tmp_path, world)
    secret = tmp_path / "secret"
    secret.write_bytes((commit / name).read_bytes())
    change(commit / name, secret)
    refused(world.pull(url), f"{name} {reason}")
    assert rubbish(world.bob) == []


@pytest.mark.parametrize(
    ("refs", "reason"),
    [
        (b"[" * 99_999, "refs.json is nested deeper"),
        (b"{}", "refs.json is faulty: branches is missing; tags is missing"),
        (
            b'{"schema": 1, "branches": {"main": "../../x"}, "tags": {}}',
            "branches.main must be the id of a commit",
        ),
        (b'{"schema": 1, "branches": {"main": 5}, "tags": {}}', "branches.main must be a string, not 5"),
        (b'{"schema": 2, "branches": {}, "tags": {}, "rubbish": ["../x"]}', "must be the id of a commit"),
        (b'{"schema": 3, "branches": {}, "tags": {}}', "schema must be"),
    ],
)
def test_refs_of_a_shared_folder_are_not_trusted(
    world: World, tmp_path: Path, refs: bytes, reason: str
) -> None:
    world.bob = tmp_path / "bob"
    url, commit = folder_remote(tmp_path, world)
    (commit.parents[1] / "refs.json").write_bytes(refs)
    refused(world.pull(url), reason)
    assert rubbish(world.bob) == []
