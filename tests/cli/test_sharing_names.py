"""A name of the store belongs to the place and the task of its adapter, whatever is used or pulled beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from onetrunk.adapters.store.references import is_name
from onetrunk.adapters.store.store import Store
from onetrunk.adapters.store.version_index import Origin
from tests.hub_child import Child
from tests.hub_server import HubServer
from tests.hub_world import REPO, World, done, refused

OTHER = "eve/mood"
HUB = "https://huggingface.co"


@pytest.fixture
def world(hub: HubServer, child: Child, tmp_path: Path, stock: Path, backbone: Path) -> Iterator[World]:
    """Ada has published mood@1 as ada/mood; eve has the same adapter in eve/mood; bob's store is empty."""
    hub.faults.clear()
    hub.repos.clear()
    world = World(hub, child, tmp_path, stock, backbone)
    done(world.push())
    hub.create_repo(OTHER).commit(_published(world))
    yield world
    hub.faults.clear()


@pytest.fixture
def trained(world: World, stock: Path) -> World:
    """The world in which bob has trained `mood` and `names` himself."""
    shutil.copytree(stock, world.bob)
    return world


def _published(world: World) -> dict[str, bytes]:
    files = world.hub.repo(REPO).files()
    return {name: data for name, data in files.items() if not name.startswith(".")}


def own(world: World) -> dict[str, str]:
    """Return what each name of bob's store means that he has given himself."""
    versions = Store(world.bob).versions()
    return {each.name: each.ref for each in versions if not each.is_cached}


def cached(world: World) -> list[str]:
    """Return the places of the versions in bob's store that nobody has named."""
    return [str(each.origin and each.origin.place) for each in Store(world.bob).versions() if each.is_cached]


# A use by location


@pytest.mark.parametrize("command", ["predict", "eval", "export", "train"])
def test_a_use_by_location_changes_no_name(trained: World, data: Path, tmp_path: Path, command: str) -> None:
    before = own(trained)
    train = ("train", "sentiment", "--train", data / "mood", "--from", OTHER, "--name", "new", "--epochs", 1)
    line: tuple[object, ...] = {
        "predict": ("predict", OTHER, "good film"),
        "eval": ("eval", OTHER, "--data", data / "mood"),
        "export": ("export", OTHER, tmp_path / "out", "--format", "merged"),
        "train": train,
    }[command]
    done(trained.run(*line, "--backbone", trained.backbone, "--json", home=trained.bob))
    assert {name: ref for name, ref in own(trained).items() if name != "new"} == before
    assert cached(trained) == [OTHER]


def test_a_use_by_location_says_which_version_was_taken(world: World) -> None:
    line = done(world.run("predict", OTHER, "good", "--backbone", world.backbone, "--json", home=world.bob))
    assert f"{OTHER} is {line.json['adapter']} in the store" in line.err


def test_what_was_pulled_is_used_without_another_copy(world: World) -> None:
    done(world.pull(REPO, "--as", "people"))
    options = ("--backbone", world.backbone, "--json")
    line = done(world.run("predict", REPO, "good", *options, home=world.bob))
    assert (line.json["adapter"], len(Store(world.bob).versions())) == ("people@1", 1)


def test_a_newer_commit_is_used_without_a_change_of_the_pulled_name(world: World) -> None:
    done(world.pull())
    done(world.push("--force", ref="mood@2"))
    done(world.run("predict", REPO, "good", "--backbone", world.backbone, home=world.bob))
    assert (own(world), cached(world)) == ({"mood": "mood@1"}, [REPO])


def test_what_is_cached_is_listed_and_shown_with_its_place(world: World) -> None:
    done(world.run("predict", OTHER, "good", "--backbone", world.backbone, home=world.bob))
    (entry,) = done(world.run("list", "--json", home=world.bob)).json
    assert (entry["cached"], entry["origin"].partition("@")[0]) == (True, OTHER)
    shown = done(world.run("show", entry["name"], home=world.bob)).out
    assert "following main, used by its location without `adapters pull`" in shown


def test_what_is_cached_can_be_removed(world: World) -> None:
    done(world.run("predict", OTHER, "good", "--backbone", world.backbone, home=world.bob))
    (stored,) = Store(world.bob).versions()
    done(world.run("remove", stored.name, "--all", "--yes", home=world.bob))
    assert Store(world.bob).versions() == []


def test_what_is_cached_is_outdated_only_when_it_is_named(world: World) -> None:
    done(world.run("predict", REPO, "good", "--backbone", world.backbone, home=world.bob))
    (stored,) = Store(world.bob).versions()
    done(world.push("--force", ref="mood@2"))
    assert done(world.run("outdated", "--json", home=world.bob)).json == []
    (named,) = done(world.run("outdated", stored.name, "--json", home=world.bob)).json
    assert named["outdated"]


def test_a_remote_that_cannot_be_reached_leaves_the_version_of_the_last_use(world: World) -> None:
    options = ("--backbone", world.backbone, "--json")
    first = done(world.run("predict", OTHER, "good", *options, home=world.bob)).json
    world.hub.faults.at(1, "drop", times=10_000)
    line = done(world.run("predict", OTHER, "good", *options, home=world.bob))
    assert line.json["adapter"] == first["adapter"]


def cache_name(place: str, endpoint: str | None) -> str:
    return Origin(place, "c" * 40, "main", endpoint).cache_name


@pytest.mark.parametrize(
    ("base", "endpoint"),
    [
        ("acme/ner", HUB),
        ("acme/ner", "https://hub.example"),
        ("Acme/ner", HUB),
        ("acme/" + "n" * 90, HUB),
        ("con.x/ner", HUB),
        ("file:///models/acme/ner", None),
        ("file:///other/acme/ner", None),
        ("file:///models/%E4%BA%BA", None),
    ],
)
def test_each_place_has_a_name_of_its_own(base: str, endpoint: str | None) -> None:
    name = cache_name(base, endpoint)
    assert is_name(name)
    assert (name == "acme--ner") == ((base, endpoint) == ("acme/ner", HUB))


def test_two_folders_of_one_name_are_two_places() -> None:
    assert cache_name("file:///a/ner", None) != cache_name("file:///b/ner", None)


# A pull


def test_a_pull_into_a_trained_name_is_refused(trained: World) -> None:
    before = own(trained)
    refused(
        trained.pull(OTHER),
        r"the name 'mood' is taken: mood@2 was trained or imported here; eve/mood was not",
    )
    assert own(trained) == before


def test_a_pull_into_a_name_of_another_repo_is_refused(world: World) -> None:
    done(world.pull())
    refused(world.pull(OTHER), rf"mood@1 comes from {REPO}.*`adapters pull {OTHER} --as NAME`.*--into mood")
    assert own(world) == {"mood": "mood@1"}


def test_a_refused_pull_downloads_nothing(world: World) -> None:
    done(world.pull())
    before = len(world.hub.requests)
    refused(world.pull(OTHER), "is taken")
    assert not [each for each in world.hub.requests[before:] if "/resolve/" in str(each)]


def test_as_gives_a_pull_a_name_of_its_own(trained: World) -> None:
    told = done(trained.pull(OTHER, "--as", "eves")).json
    assert (told["ref"], own(trained)["mood"]) == ("eves@1", "mood@2")


def test_as_takes_no_name_of_another_repo(trained: World) -> None:
    refused(trained.pull(OTHER, "--as", "names"), "the name 'names' is taken")


def test_into_adds_to_a_name_all_the_same(trained: World) -> None:
    assert done(trained.pull(OTHER, "--into", "mood")).json["ref"] == "mood@3"


def test_into_needs_a_name_that_is_there(trained: World) -> None:
    refused(trained.pull(OTHER, "--into", "moods"), "no adapter 'moods' in the store")


def test_as_and_into_do_not_go_together(trained: World) -> None:
    line = trained.pull(OTHER, "--into", "mood", "--as", "mood")
    assert (line.code, "--as and --into cannot be combined" in line.err) == (2, True)


def test_the_same_repo_at_another_revision_is_the_next_version(world: World) -> None:
    done(world.push("--tag", "v1"))
    done(world.push("--force", ref="mood@2"))
    assert done(world.pull(f"{REPO}@v1")).json["ref"] == "mood@1"
    assert done(world.pull()).json["ref"] == "mood@2"


def test_a_repo_that_changed_its_task_is_refused(world: World) -> None:
    done(world.pull())
    done(world.push(ref="names", target="ada/names"))
    words = world.hub.repo("ada/names").files()
    world.hub.repo(REPO).commit({name: data for name, data in words.items() if not name.startswith(".")})
    refused(world.pull(), "mood@1 is for the task sentiment, but the adapter to pull is for ner")
    assert own(world) == {"mood": "mood@1"}


def test_a_repo_that_changed_its_task_is_used_by_its_location_all_the_same(world: World) -> None:
    place, options = "ada/names", ("--backbone", world.backbone, "--json")
    done(world.push(ref="names", target=place))
    assert '"entities"' in done(world.run("predict", place, "Ada", *options, home=world.bob)).out
    done(world.push())
    mood = world.hub.repo(REPO).files()
    world.hub.repo(place).commit({name: data for name, data in mood.items() if not name.startswith(".")})
    assert '"label"' in done(world.run("predict", place, "Ada", *options, home=world.bob)).out


def test_a_folder_of_the_same_name_is_another_place(world: World, tmp_path: Path) -> None:
    first, second = ((tmp_path / each / "mood").as_uri() for each in ("a", "b"))
    for target in (first, second):
        done(world.push(target=target))
    done(world.pull(first))
    refused(world.pull(second), f"mood@1 comes from {first}")


def test_plain_peft_is_not_imported_into_a_name_that_is_there(trained: World, tmp_path: Path) -> None:
    done(trained.run("export", "names", tmp_path / "x", "--format", "peft", "--backbone", trained.backbone))
    options = ("--as", "names", "--task", "ner", "--labels", "O,B-LOC,B-PER")
    refused(trained.pull((tmp_path / "x").as_uri(), *options), "the name 'names' is taken")


def test_the_same_repo_of_another_hub_is_another_place(
    world: World, tmp_path: Path, stock: Path, backbone: Path
) -> None:
    done(world.pull())
    with HubServer() as second:
        child = Child(second, tmp_path / "cache")
        elsewhere = World(second, child, tmp_path / "second", stock, backbone)
        elsewhere.bob = world.bob
        done(elsewhere.push("--force", ref="mood@2"))
        refused(elsewhere.pull(), rf"mood@1 comes from {REPO} of {world.hub.url}")
        (told,) = done(elsewhere.run("outdated", "--json", home=world.bob)).json
        child.close()
    assert told["error"] == f"it was pulled from {world.hub.url}, but HF_ENDPOINT is now {second.url}"


def test_a_store_of_the_schema_before_is_updated_from_its_repo(world: World) -> None:
    done(world.pull())
    index = world.bob / "mood" / "adapter.json"
    old = json.loads(index.read_text())
    del old["origins"]["1"]["endpoint"]
    index.write_text(json.dumps({**old, "schema": 3}))
    done(world.push("--force", ref="mood@2"))
    told = done(world.run("update", "--backbone", world.backbone, "--json", home=world.bob)).json
    assert [each["ref"] for each in told["updated"]] == ["mood@2"]


# An update


@pytest.fixture
def trained_on(world: World, data: Path) -> World:
    """The world in which bob has pulled ada/mood and trained on from it, and ada has published again."""
    done(world.pull())
    options = ("--backbone", world.backbone, "--epochs", 1, "--lr", 0.01)
    line = ("train", "sentiment", "--name", "mood", "--train", data / "mood", "--from", "mood", *options)
    done(world.run(*line, home=world.bob))
    done(world.push("--force", ref="mood@2"))
    return world


def test_an_update_of_all_leaves_a_name_that_was_trained_on_and_says_so(trained_on: World) -> None:
    line = done(trained_on.run("update", "--backbone", trained_on.backbone, home=trained_on.bob))
    assert (
        "mood@2 was trained on this machine after mood@1 was pulled; to add the new commit anyway, run"
        in line.err
    )
    assert f"`adapters pull {REPO}@main --into" in line.err
    assert own(trained_on) == {"mood": "mood@2"}


def test_an_update_of_a_name_that_was_trained_on_is_refused(trained_on: World) -> None:
    line = trained_on.run("update", "mood", "--backbone", trained_on.backbone, home=trained_on.bob)
    refused(line, "mood is not updated: mood@2 was trained on this machine")
