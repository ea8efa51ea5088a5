"""Commits, tags, branches and pull requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationDelete
from huggingface_hub.errors import HfHubHTTPError, RemoteEntryNotFoundError, RevisionNotFoundError

from tests.hub_server import HubServer
from tests.hub_server.sample_repo import CARD, FILES, REPO, WEIGHTS, Call, adding


def test_an_uploaded_folder_is_a_commit_with_large_files_in_storage(
    hub: HubServer, api: Callable[..., Call], tmp_path: Path
) -> None:
    ada = api(hub.add_user("ada"))
    ada("create_repo", REPO)
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    made = ada("upload_folder", repo_id=REPO, folder_path=tmp_path, commit_message="Push")
    repo, commit = hub.repo(REPO), hub.repo(REPO).at()
    assert repo.files() == {".gitattributes": repo.files()[".gitattributes"], **FILES}
    assert (commit.oid, commit.title, commit.author) == (made.oid, "Push", "ada")
    assert [path for path, file in commit.files.items() if file.lfs] == ["adapter.safetensors"]
    assert [(r.method, r.token) for r in hub.requests if r.path.startswith("/storage/")] == [("PUT", False)]


def test_unchanged_files_are_not_uploaded_again(hub: HubServer, ada: Call) -> None:
    operations = adding(task_json=FILES["task.json"], adapter_safetensors=WEIGHTS)
    made = ada("create_commit", REPO, operations, commit_message="Nothing new")
    assert made.oid == hub.repo(REPO).head()
    assert (hub.asked("/storage/"), hub.asked("/commit/")) == ([], [])


def test_a_commit_deletes_files_and_folders(hub: HubServer, ada: Call) -> None:
    hub.repo(REPO).commit({"old/a": b"a", "old/deep/b": b"b", "older": b"c"})
    doomed = [CommitOperationDelete("old/"), CommitOperationDelete("task.json")]
    ada("create_commit", REPO, doomed, commit_message="Less")
    assert set(hub.repo(REPO).files()) == {".gitattributes", "README.md", "adapter.safetensors", "older"}
    with pytest.raises(RemoteEntryNotFoundError):
        ada("create_commit", REPO, [CommitOperationDelete("old/a")], commit_message="Gone")


def test_an_upload_with_a_wrong_byte_is_refused(hub: HubServer, ada: Call) -> None:
    hub.faults.at(1, "flip", "PUT /storage/")
    with pytest.raises(RuntimeError, match="Error while uploading"):
        ada("create_commit", REPO, adding(new_safetensors=b"weights" * 9), commit_message="Push")
    assert [r.status for r in hub.requests if r.method == "PUT"] == [400]
    assert "new.safetensors" not in hub.repo(REPO).files()


def test_a_stale_parent_is_refused(hub: HubServer, ada: Call) -> None:
    seen = hub.repo(REPO).head()
    hub.faults.before(1, lambda: hub.repo(REPO).commit({"theirs": b"first"}), "POST .*/commit/main")
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as caught:
        ada("create_commit", REPO, adding(mine=b"late"), commit_message="Mine", parent_commit=seen)
    assert caught.value.response.status_code == 412
    assert "mine" not in hub.repo(REPO).files()


@pytest.mark.parametrize("head", ["base_model: /home/ada/model", "tags: ner", "tags: [1, 2]", "a: [", "- a"])
def test_a_card_that_the_hub_cannot_read_is_refused(hub: HubServer, ada: Call, head: str) -> None:
    card = f"---\n{head}\n---\n".encode()
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
        ada("create_commit", REPO, adding(README_md=card), commit_message="Push")
    assert hub.repo(REPO).files()["README.md"] == CARD


def test_tags_and_branches_come_and_go(hub: HubServer, ada: Call) -> None:
    first = hub.repo(REPO).head()
    ada("create_tag", REPO, tag="v1", tag_message="The first")
    ada("create_branch", REPO, branch="next/one", revision="v1")
    made = ada("create_commit", REPO, adding(b=b"b"), commit_message="On a branch", revision="next/one")
    refs = ada("list_repo_refs", REPO)
    assert {branch.name: branch.target_commit for branch in refs.branches} == {
        "main": first,
        "next/one": made.oid,
    }
    assert [(tag.name, tag.ref, tag.target_commit) for tag in refs.tags] == [("v1", "refs/tags/v1", first)]
    with pytest.raises(HfHubHTTPError, match="409"):
        ada("create_tag", REPO, tag="v1", revision="next/one")
    ada("create_tag", REPO, tag="v1", revision="next/one", exist_ok=True)
    assert hub.repo(REPO).tags == {"v1": first}
    ada("delete_tag", REPO, tag="v1")
    ada("delete_branch", REPO, branch="next/one")
    assert hub.repo(REPO).refs == {"refs/heads/main": first}
    with pytest.raises(RevisionNotFoundError):
        ada("delete_tag", REPO, tag="v1")


def test_anyone_may_open_a_pull_request(hub: HubServer, api: Callable[..., Call], ada: Call) -> None:
    before = hub.repo(REPO).head()
    bob = api(hub.add_user("bob"))
    changed = adding(adapter_safetensors=b"better", note_txt=b"why")
    made = bob("create_commit", REPO, changed, commit_message="Better", create_pr=True)
    assert (made.pr_num, made.pr_revision, made.oid) == (1, "refs/pr/1", hub.repo(REPO).pulls[1])
    assert hub.repo(REPO).head() == before
    assert hub.repo(REPO).files("refs/pr/1")["adapter.safetensors"] == b"better"
    refs = ada("list_repo_refs", REPO, include_pull_requests=True)
    assert [pull.ref for pull in refs.pull_requests] == ["refs/pr/1"]
    assert ada("model_info", REPO, revision="refs/pr/1").sha == made.oid


def test_commits_are_listed_newest_first_over_pages(hub: HubServer, ada: Call) -> None:
    made = [hub.repo(REPO).commit({"n": bytes([n])}, f"Commit {n}") for n in range(5)]
    listed = ada("list_repo_commits", REPO)
    assert [commit.commit_id for commit in listed][:5] == made[::-1]
    assert (len(listed), len(hub.asked("/commits/"))) == (7, 3)
