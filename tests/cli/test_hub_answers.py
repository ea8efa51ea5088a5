"""A Hub that asks to wait, that answers something else than a Hub, and repos with several adapters."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from onetrunk.adapters.remotes.locations import Location
from onetrunk.adapters.store.store import Store
from tests.hub_child import Child, Line
from tests.hub_server import HubServer
from tests.hub_world import REPO, World, done, files_of, refused

API, FILE, LIST = "GET /api/models/ada/mood/revision", "(GET|HEAD) /ada/mood/resolve/", "GET /api/models[?]"


@pytest.fixture
def world(hub: HubServer, child: Child, tmp_path: Path, stock: Path, backbone: Path) -> Iterator[World]:
    hub.faults.clear()
    hub.repos.clear()
    world = World(hub, child, tmp_path, stock, backbone)
    done(world.push())
    world.hub.repo(REPO).commit({"README.md": f"# New {tmp_path}\n".encode()})  # no cache has it
    yield world
    hub.faults.clear()


# Waiting


def waits(value: str) -> dict[str, Any]:
    name, _, text = value.partition(": ")
    return {name.replace("-", "_"): text}


LONG = [
    "Retry-After: 100000",
    "Retry-After: 99999999999999999999999999",
    'RateLimit: "api";r=0;t=86400',
    "RateLimit: limit=100, remaining=0, reset=86400",
    "RateLimit-Reset: 86400",
]


@pytest.mark.parametrize("header", LONG)
@pytest.mark.parametrize("place", [API, FILE])
def test_a_wait_of_a_day_is_refused_at_once_in_one_line(world: World, place: str, header: str) -> None:
    world.hub.faults.answer(place, 429, b"slow down", times=100, **waits(header))
    began = time.monotonic()
    line = refused(world.pull(), r"^error: ada/mood: .*status 429.*; try again in \d{5,12} s$")
    assert time.monotonic() - began < 20
    assert line.err.count("\n") == 1
    assert Store(world.bob).versions() == []


@pytest.mark.parametrize("place", ["POST /api/models/.*/preupload", "POST .*/commit/", "POST .*/info/lfs"])
def test_a_push_does_not_wait_for_a_day(world: World, place: str) -> None:
    world.hub.faults.answer(place, 429, times=100, Retry_After="100000")
    began = time.monotonic()
    refused(world.push("--force", ref="mood@2", target="ada/other"), "^error: ada/other: .*try ")
    assert time.monotonic() - began < 30


def test_a_search_does_not_wait_for_a_day(world: World) -> None:
    world.hub.faults.answer(LIST, 429, times=100, Retry_After="100000")
    refused(world.run("search", "mood"), "status 429.*try again in 100000 s$")


@pytest.mark.parametrize("place", [API, FILE])
@pytest.mark.parametrize("kind", ["date", "past", "words", "ratelimit"])
def test_a_short_wait_is_waited_for(world: World, place: str, kind: str) -> None:
    header = {
        "date": f"Retry-After: {formatdate(time.time() + 1, usegmt=True)}",
        "past": "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT",
        "words": "Retry-After: soon",
        "ratelimit": 'RateLimit: "api";r=0;t=1',
    }[kind]
    world.hub.faults.answer(place, 429, **waits(header))
    assert done(world.pull()).json["ref"] == "mood@1"


def test_a_wait_that_a_user_notices_is_told(world: World) -> None:
    world.hub.faults.answer(API, 429, Retry_After="4")
    assert "the Hub responded with status 429 and asks to wait for 4 s" in done(world.pull()).err


def test_a_date_of_tomorrow_is_a_long_wait(world: World) -> None:
    tomorrow = formatdate(time.time() + 86400, usegmt=True)
    world.hub.faults.answer(API, 429, times=100, Retry_After=tomorrow)
    refused(world.pull(), r"status 429; try again in 86\d\d\d s$")


# Other answers


def shaped(**changes: object) -> bytes:
    commit = {
        "id": REPO,
        "sha": "a" * 40,
        "siblings": [{"rfilename": "task.json", "size": 3, "blobId": "b" * 40}],
    }
    return json.dumps({**commit, **changes}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"<html>login</html>",
        b"[]",
        b"3",
        b"null",
        b"",
        b"\xff\xfe",
        shaped(sha=None),
        shaped(sha="../../etc"),
        shaped(sha=[1]),
        shaped(siblings=3),
        shaped(siblings=[3]),
        shaped(siblings=[{}]),
        shaped(siblings=[{"rfilename": 3}]),
        shaped(siblings=[{"rfilename": "task.json", "size": "many"}]),
        shaped(siblings=[{"rfilename": "task.json", "lfs": 3}]),
        shaped(lastModified="yesterday"),
        b"[" * 100_000,
    ],
    ids=range(17),
)
def test_an_answer_of_another_shape_is_one_line(world: World, body: bytes) -> None:
    world.hub.faults.answer(API, 200, body, times=9, Content_Type="application/json")
    line = refused(world.pull(), "^error: ada/mood: ")
    assert line.err.count("\n") == 1, line.err
    assert "Traceback" not in line.err
    assert Store(world.bob).versions() == []


@pytest.mark.parametrize(
    "body", [b"<html>", b"{}", b"[3]", b'[{"id": 3}]', b'[{"modelId": "a/b", "tags": 3}]']
)
def test_a_search_with_an_answer_of_another_shape_is_one_line(world: World, body: bytes) -> None:
    world.hub.faults.answer(LIST, 200, body, times=9, Content_Type="application/json")
    line = world.run("search", "mood")
    assert line.code in (0, 1)
    assert "unexpected" not in line.err
    assert line.err.count("\n") <= 1, line.err


def test_a_long_answer_is_not_read_to_its_end(world: World) -> None:
    world.hub.faults.answer(API, 200, b" " * (2**26 + 1), times=9, Content_Type="application/json")
    refused(world.pull(), "^error: ada/mood: an answer has more than 67108864 bytes$")


def test_a_compressed_bomb_is_not_unpacked(world: World) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(1100)) + packer.flush()
    assert len(bomb) > 2**20
    world.hub.faults.answer(API, 200, bomb, times=9, Content_Encoding="gzip")
    refused(world.pull(), "^error: ada/mood: an answer has more than 1048576 bytes$")


# Several adapters in a repo


@pytest.fixture
def several(world: World) -> World:
    """The world with the repo ada/all, in which the folders moods/v1 and names have an adapter each."""
    done(world.push(ref="names", target="ada/names"))
    mood, names = (files_of(world.hub.repo(repo)) for repo in (REPO, "ada/names"))
    repo = world.hub.create_repo("ada/all")
    repo.commit({f"moods/v1/{name}": data for name, data in mood.items()})
    repo.commit({f"names/{name}": data for name, data in names.items()})
    return world


def test_a_folder_of_a_repo_is_pulled(several: World) -> None:
    told = done(several.pull("ada/all/names")).json
    assert told["ref"] == "names@1"
    assert told["origin"] == f"ada/all/names@{several.hub.repo('ada/all').head()}"
    assert done(several.pull("ada/all/moods/v1@main", "--as", "mood")).json["ref"] == "mood@1"
    assert not done(several.pull("ada/all/names")).json["new"]


def test_a_folder_of_a_repo_is_a_reference(several: World) -> None:
    line = several.run(
        *("predict", "ada/all/names", "Ada in Paris", "--backbone", several.backbone, "--json"),
        home=several.bob,
    )
    assert done(line).json["adapter"].startswith("ada--all--names")


def test_a_folder_of_a_repo_is_updated(several: World) -> None:
    done(several.pull("ada/all/names"))
    several.hub.repo("ada/all").commit({"names/README.md": b"# Edited\n"})
    told = done(several.run("update", "--backbone", several.backbone, "--json", home=several.bob)).json
    assert [each["ref"] for each in told["updated"]] == ["names@2"]


def test_a_repo_with_adapters_only_in_folders_has_none_itself(several: World) -> None:
    refused(several.pull("ada/all"), "it has adapters in folders; pull ada/all/moods/v1, ada/all/names$")
    refused(several.pull("ada/all/other"), r"has no task\.json, so it is not a OneTrunk adapter")


def test_a_push_to_a_folder_of_a_repo_is_refused(several: World) -> None:
    before = several.hub.repo("ada/all").head()
    refused(several.push(target="ada/all/names"), "ada/all/names is a folder of a repo.*push to another repo")
    assert several.hub.repo("ada/all").head() == before


@pytest.mark.parametrize(
    ("text", "repo", "folder", "revision"),
    [
        ("a/b/c", "a/b", "c", None),
        ("a/b/c/d e@v1", "a/b", "c/d e", "v1"),
        ("a/b@refs/pr/1", "a/b", "", "refs/pr/1"),
    ],
)
def test_a_location_has_a_folder(text: str, repo: str, folder: str, revision: str | None) -> None:
    found = Location.parse(text)
    assert (found.place, found.folder, found.revision, str(found)) == (repo, folder, revision, text)
    assert Location.parse(found.base).folder == folder


# Offline


@pytest.fixture
def away(world: World, tmp_path: Path) -> Iterator[Child]:
    """A process in offline mode, whose client has an empty cache."""
    child = Child(world.hub, tmp_path / "cache", HF_HUB_OFFLINE="1")
    yield child
    child.close()


def pulled_offline(world: World, away: Child, *arguments: object) -> Line:
    return away("pull", *arguments, "--backbone", world.backbone, "--json", home=world.bob, token=world.token)


def test_a_pull_in_offline_mode_uses_what_was_pulled_and_says_so(world: World, away: Child) -> None:
    commit = done(world.pull()).json["origin"].partition("@")[2]
    told = done(pulled_offline(world, away, REPO)).json
    assert (told["ref"], told["new"]) == ("mood@1", False)
    assert told["notes"] == [
        f"offline mode is on (HF_HUB_OFFLINE): commit {commit[:12]}, pulled as mood@1, is used; it was "
        "not checked if main of ada/mood has a newer one"
    ]
    assert done(pulled_offline(world, away, f"{REPO}@{commit}")).json["ref"] == "mood@1"


def test_a_pull_in_offline_mode_gives_it_another_name(world: World, away: Child) -> None:
    done(world.pull())
    assert done(pulled_offline(world, away, REPO, "--as", "other")).json["ref"] == "other@1"
    first, second = (Store(world.bob).resolve(name) for name in ("mood", "other"))
    assert (first.id, first.origin) == (second.id, second.origin)


@pytest.mark.parametrize("source", [f"{REPO}@v9", "ada/none"])
def test_in_offline_mode_another_revision_or_repo_is_not_found(
    world: World, away: Child, source: str
) -> None:
    done(world.pull())
    refused(pulled_offline(world, away, source, "--as", "x"), r"offline mode is on \(HF_HUB_OFFLINE\)")


def test_a_name_that_means_another_version_is_told(world: World) -> None:
    done(world.pull())
    world.hub.repo(REPO).commit({"README.md": b"# Edited\n"})
    done(world.pull())
    done(world.run("promote", "mood@1", home=world.bob))
    told = done(world.pull()).json
    assert (told["ref"], told["notes"]) == (
        "mood@2",
        ["mood means another version; `adapters promote mood@2` makes it mean mood@2"],
    )


# Two at once


def test_two_processes_that_pull_one_commit_store_it_once(world: World, tmp_path: Path) -> None:
    answers = [tmp_path / f"answer-{number}" for number in range(3)]
    options = ("--backbone", world.backbone, "--json")
    for answer in answers:
        world._child.start("pull", REPO, *options, home=world.bob, token=world.token, answer=answer)
    assert [world._child.reap() for _ in answers] == [0, 0, 0]
    told = [done(Line.read(answer)).json for answer in answers]
    assert [each["ref"] for each in told] == ["mood@1"] * 3
    assert sorted(each["new"] for each in told) == [False, False, True]
    assert [each.ref for each in Store(world.bob).versions()] == ["mood@1"]


def test_two_processes_that_use_one_location_store_it_once(world: World, tmp_path: Path) -> None:
    answers = [tmp_path / f"answer-{number}" for number in range(3)]
    line = ("predict", REPO, "good film", "--backbone", world.backbone, "--json")
    for answer in answers:
        world._child.start(*line, home=world.bob, token=world.token, answer=answer)
    assert [world._child.reap() for _ in answers] == [0, 0, 0]
    (stored,) = Store(world.bob).versions()
    assert [done(Line.read(answer)).json["adapter"] for answer in answers] == [stored.ref] * 3
