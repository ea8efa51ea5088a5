"""`adapters push`, `pull`, `outdated`, `update`, `search`: over real HTTP, and through shared folders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onetrunk.adapters.store.store import Store
from tests.hub_child import Child
from tests.hub_server import HubServer
from tests.hub_world import REPO, World, done, refused


@pytest.fixture
def world(hub: HubServer, child: Child, tmp_path: Path, stock: Path, backbone: Path) -> Iterator[World]:
    hub.faults.clear()
    hub.repos.clear()
    yield World(hub, child, tmp_path, stock, backbone)
    hub.faults.clear()


def test_what_is_pushed_and_pulled_has_the_same_weights_and_results(world: World) -> None:
    done(world.push())
    pulled = done(world.pull()).json
    ours, theirs = Store(world.ada).resolve("mood@1").read(), Store(world.bob).resolve(pulled["ref"]).read()
    assert theirs.adapter_model.keys() == ours.adapter_model.keys()
    assert all(theirs.adapter_model[key].equal(tensor) for key, tensor in ours.adapter_model.items())
    assert theirs.manifest.metrics == ours.manifest.metrics
    assert theirs.manifest.probe == ours.manifest.probe


def test_eval_of_what_was_pulled_gives_the_figures_of_what_was_pushed(world: World, data: Path) -> None:
    done(world.push())
    done(world.pull())
    options = ("--data", data / "mood", "--backbone", world.backbone, "--json")
    ours, theirs = (
        done(world.run("eval", "mood@1", *options, home=home)).json for home in (world.ada, world.bob)
    )
    assert theirs == ours


def test_show_says_where_a_version_came_from(world: World) -> None:
    commit = done(world.push()).json["commit"]
    done(world.pull())
    assert f"{REPO}@{commit}, following main" in done(world.run("show", "mood", home=world.bob)).out
    assert done(world.run("show", "mood", "--json", home=world.bob)).json["origin"] == f"{REPO}@{commit}"


def test_a_push_is_one_commit_and_says_where(world: World) -> None:
    told = done(world.push("--tag", "v1")).json
    repo = world.hub.repo(REPO)
    assert repo.head("v1") == told["commit"] == repo.head()
    assert [commit.title for commit in repo.commits()][:-1] == ["mood@1"]
    assert told["url"].endswith(told["commit"])


def test_a_push_that_changes_nothing_makes_no_commit(world: World) -> None:
    first = done(world.push()).json
    again = done(world.push()).json
    assert (again["unchanged"], again["commit"]) == (True, first["commit"])
    assert len(world.hub.repo(REPO).commits()) == 2


def test_a_dry_run_changes_nothing(world: World) -> None:
    told = done(world.push("--dry-run")).json
    assert (told["dry_run"], told["commit"]) == (True, None)
    assert "task.json" in told["files"]
    assert REPO not in world.hub.repos


def test_a_requirement_that_is_not_kept_refuses(world: World) -> None:
    refused(world.push("--require", "accuracy>=1.01"), r"accuracy >= 1.01 is required, but on test it is")
    assert REPO not in world.hub.repos


def test_a_figure_that_is_not_there_refuses(world: World) -> None:
    refused(world.push("--require", "f2>=0.1"), "f2 >= 0.1 is required, but its metrics on held-out data are")


def test_what_is_worse_on_the_same_data_needs_force(world: World) -> None:
    done(world.push())
    repo = world.hub.repo(REPO)
    task = json.loads(repo.files()["task.json"])
    task["metrics"]["test"]["accuracy"] = 2.0
    repo.commit({"task.json": json.dumps(task).encode()})
    refused(world.push(ref="mood@2"), r"on the same test data its accuracy is .*--force")
    done(world.push("--force", ref="mood@2"))


def test_a_repo_that_holds_something_else_is_left_alone(world: World) -> None:
    world.hub.create_repo(REPO).commit({"model.bin": b"weights"})
    refused(world.push(), r"has files that are not of an adapter \(model.bin\)")


def test_an_adapter_of_another_task_is_not_replaced(world: World) -> None:
    done(world.push())
    refused(
        world.push(ref="names", target=REPO), "the remote has an adapter for sentiment, this one is for ner"
    )


def test_a_text_of_the_user_survives_the_next_push(world: World) -> None:
    done(world.push())
    repo = world.hub.repo(REPO)
    card = repo.files()["README.md"].decode()
    begin = re.search(r"## Notes\n+<!--.*?-->\n", card)
    assert begin is not None
    edited = card[: begin.end()] + "\nAsk *ada* about it.\n" + card[begin.end() :]
    repo.commit({"README.md": edited.encode()})
    done(world.push(ref="mood@2"))
    assert "Ask *ada* about it." in repo.files()["README.md"].decode()


def test_an_edited_card_can_be_pulled(world: World) -> None:
    done(world.push())
    world.hub.repo(REPO).commit({"README.md": b"# Mine\n"})
    told = done(world.pull()).json
    assert told["notes"] == [
        "the model card was edited after the adapter was published; the new card is stored"
    ]


def test_a_commit_that_is_there_is_not_downloaded_again(world: World) -> None:
    done(world.push())
    first = done(world.pull()).json
    before = len(world.hub.requests)
    again = done(world.pull()).json
    assert (first["new"], again["new"], again["ref"]) == (True, False, first["ref"])
    assert not [own for own in world.hub.requests[before:] if "/resolve/" in str(own)]


def test_a_commit_id_that_is_there_asks_nothing_at_all(world: World) -> None:
    commit = done(world.push()).json["commit"]
    done(world.pull())
    before = len(world.hub.requests)
    done(world.pull(f"{REPO}@{commit}"))
    assert len(world.hub.requests) == before


def test_a_tag_and_a_name_of_ones_own(world: World) -> None:
    done(world.push("--tag", "v1"))
    done(world.push(ref="mood@2"))
    told = done(world.pull(f"{REPO}@v1", "--as", "feelings")).json
    assert (told["ref"], told["origin"]) == ("feelings@1", f"{REPO}@{world.hub.repo(REPO).head('v1')}")


def test_outdated_and_update_follow_the_branch(world: World) -> None:
    done(world.push())
    done(world.pull())
    (before,) = done(world.run("outdated", "--json", home=world.bob)).json
    assert not before["outdated"]
    done(world.push("--force", ref="mood@2"))
    (after,) = done(world.run("outdated", "--json", home=world.bob)).json
    assert after["outdated"]
    told = done(world.run("update", "--backbone", world.backbone, "--json", home=world.bob)).json
    assert [own["ref"] for own in told["updated"]] == ["mood@2"]
    assert done(world.run("update", "--json", home=world.bob)).json == {
        "updated": [],
        "skipped": [],
        "errors": [],
    }


def test_a_repo_is_a_reference_wherever_one_is_expected(world: World, data: Path) -> None:
    done(world.push())
    options = ("--backbone", world.backbone, "--json")
    told = done(world.run("predict", REPO, "good film", *options, home=world.bob)).json
    (stored,) = Store(world.bob).versions()
    assert (told["adapter"], stored.is_cached) == (stored.ref, True)
    measured = done(world.run("eval", f"{REPO}@main", "--data", data / "mood", *options, home=world.bob)).json
    assert measured["adapter"] == stored.ref


def test_a_pull_request_leaves_the_branch_as_it_is(world: World) -> None:
    done(world.push())
    head = world.hub.repo(REPO).head()
    told = done(world.push("--force", "--create-pr", ref="mood@2")).json
    assert told["pull_request"].endswith("/discussions/1")
    assert world.hub.repo(REPO).head() == head


def test_a_branch_that_moves_during_a_push_is_a_conflict(world: World) -> None:
    done(world.push())
    repo = world.hub.repo(REPO)
    world.hub.faults.before(1, lambda: repo.commit({"README.md": b"# Mine\n"}), match="POST .*/commit/")
    refused(world.push("--force", ref="mood@2"), "another push was faster")
    assert repo.files()["README.md"] == b"# Mine\n"


@pytest.mark.parametrize("kind", ["500", "429", "reset", "drop", "slow"])
@pytest.mark.parametrize("place", ["GET /api/models", "GET /.*/resolve/", "POST .*/commit/"])
def test_a_fault_that_passes_is_no_failure(world: World, kind: Any, place: str) -> None:
    world.hub.faults.at(1, kind, match=place, seconds=0.1 if kind == "slow" else None)
    done(world.push())
    assert len(world.hub.repo(REPO).commits()) == 2
    done(world.pull())


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "task.json", "README.md"])
def test_a_flipped_byte_is_found_and_fetched_again(world: World, name: str) -> None:
    done(world.push())
    world.hub.faults.at(1, "flip", match=rf"GET /(storage/.*|.*/resolve/.*){re.escape(name)}")
    done(world.pull())
    assert Store(world.bob).resolve("mood@1").read().manifest.task == "sentiment"


def test_bytes_that_stay_flipped_leave_the_store_empty(world: World) -> None:
    done(world.push())
    world.hub.repo(REPO).commit({"README.md": b"# A card that no cache has\n"})
    world.hub.faults.at(1, "flip", match=r"GET /.*/resolve/.*README", times=9)
    refused(world.pull(), r"every download of README\.md differs from the hash")
    assert Store(world.bob).versions() == []


def test_search_finds_by_task_and_shows_the_result(world: World) -> None:
    done(world.push())
    done(world.push(ref="names", target="ada/names"))
    (found,) = done(world.run("search", "--task", "sentiment", "--json")).json
    assert (found["repo"], found["task"]) == (REPO, "sentiment")
    assert found["metric"] is not None
    assert len(done(world.run("search", "ada", "--json")).json) == 2


def test_a_folder_is_a_remote(world: World, tmp_path: Path) -> None:
    target = (tmp_path / "shared" / "mood").as_uri()
    first = done(world.push("--tag", "v1", target=target)).json
    assert done(world.push(target=target)).json["unchanged"]
    done(world.push("--force", ref="mood@2", target=target))
    told = done(world.pull(f"{target}@v1")).json
    assert told["origin"] == f"{target}@{first['commit']}"
    assert done(world.pull(target)).json["ref"] == "mood@2"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("ada/", "is not a valid repo id of the Hub"),
        ("ada/mo od", "is not a valid repo id of the Hub"),
        ("ada/mood@", "is not a valid branch, tag or commit"),
        ("ada/mood@../x", "is not a valid branch, tag or commit"),
        ("file://host/x", "the path of a folder must be absolute"),
        ("ada/none", "there is no such repo"),
        ("file:///none/there", "nothing has been published there"),
    ],
)
def test_a_source_that_is_none_is_refused_in_words(world: World, source: str, reason: str) -> None:
    refused(world.pull(source), re.escape(reason))


def test_a_repo_without_an_adapter_says_what_to_do(world: World) -> None:
    world.hub.create_repo(REPO).commit({"adapter_config.json": b"{}"})
    refused(world.pull(), "it is not a OneTrunk adapter; for a plain PEFT adapter, give --task")


def test_another_backbone_is_refused_unless_it_is_asked_for(world: World, tmp_path: Path) -> None:
    from onetrunk.core.testing import tiny_backbone

    done(world.push())
    other = tiny_backbone(tmp_path / "other", seed=9)
    line = world.run("pull", REPO, "--backbone", other, home=world.bob)
    refused(line, "was trained on")
    told = world.run("pull", REPO, "--backbone", other, "--allow-backbone-mismatch", "--json", home=world.bob)
    assert "without checking its probe" in done(told).json["notes"][0]


def test_a_file_that_was_damaged_in_a_shared_folder_is_pushed_again(world: World, tmp_path: Path) -> None:
    target = tmp_path / "shared"
    commit = done(world.push(target=target.as_uri())).json["commit"]
    weights = target / "commits" / commit / "adapter_model.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))
    assert not done(world.push(target=target.as_uri())).json["unchanged"]
    done(world.pull(target.as_uri()))


def test_a_repo_whose_weights_were_replaced_is_pushed_again(world: World) -> None:
    done(world.push())
    repo, name = world.hub.repo(REPO), "adapter_model.safetensors"
    repo.commit({name: bytes(len(repo.files()[name]))})
    assert not done(world.push()).json["unchanged"]


@pytest.mark.parametrize("option", ["--tag", "--branch"])
@pytest.mark.parametrize("name", ["a b", "../x", "x//y", ""])
def test_what_cannot_be_a_tag_or_branch_is_refused_in_words(world: World, option: str, name: str) -> None:
    refused(world.push(option, name), f"{option} {name!r}: expected a name of letters, digits")
