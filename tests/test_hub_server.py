"""The tests' Hub, driven by the unmodified client in a child process, which reads its environment once."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.constants import DOWNLOAD_CHUNK_SIZE
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub_server import HubServer

# Calls methods of HfApi that come pickled on stdin; answers with what they return or raise.
CHILD = """
import pickle, sys, warnings
from collections.abc import Iterator
from huggingface_hub import HfApi
warnings.simplefilter("ignore")
while True:
    try:
        endpoint, token, method, args, options = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        value = getattr(HfApi(endpoint=endpoint, token=token), method)(*args, **options)
        answer = True, list(value) if isinstance(value, Iterator) else value
    except Exception as error:
        answer = False, error
    try:
        sent = pickle.dumps(answer)
        pickle.loads(sent)
    except Exception:
        sent = pickle.dumps((False, RuntimeError(repr(answer))))
    sys.stdout.buffer.write(sent)
    sys.stdout.buffer.flush()
"""
CARD = b"""---
library_name: peft
pipeline_tag: token-classification
base_model: org/base
tags: [onetrunk, ner]
---
# An adapter
"""
WEIGHTS = bytes(range(256)) * 300
FILES = {"README.md": CARD, "task.json": b'{"task": "ner"}', "adapter.safetensors": WEIGHTS}
REPO = "ada/ner"
Call = Callable[..., Any]


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer(page=3) as server:
        yield server


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[bytes]]:
    """One client process for all tests: to import it takes longer than to run them."""
    with (
        HubServer() as server,
        subprocess.Popen(
            [sys.executable, "-c", CHILD],
            env=server.environment(cache=tmp_path_factory.mktemp("cache")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process,
    ):
        yield process
        assert process.stdin
        process.stdin.close()


@pytest.fixture
def api(hub: HubServer, child: subprocess.Popen[bytes]) -> Callable[..., Call]:
    """Return (token or False) → (method of HfApi, *args, **options) → what it returns; raises what it raises."""

    def client(token: str | bool = False) -> Call:
        def call(method: str, *args: Any, **options: Any) -> Any:
            assert child.stdin
            assert child.stdout
            pickle.dump((hub.url, token, method, args, options), child.stdin)
            child.stdin.flush()
            worked, value = pickle.load(child.stdout)
            if not worked:
                raise value
            return value

        return call

    return client


@pytest.fixture
def ada(hub: HubServer, api: Callable[..., Call]) -> Call:
    """A client of the owner of REPO, which has FILES."""
    hub.create_repo(REPO).commit(FILES)
    return api(hub.add_user("ada"))


def adding(**files: bytes) -> list[CommitOperationAdd]:
    return [
        CommitOperationAdd(path_in_repo=name.replace("_", "."), path_or_fileobj=data)
        for name, data in files.items()
    ]


def pulled(call: Call, folder: Path, **options: Any) -> dict[str, bytes]:
    """Download REPO to a fresh folder; what is in it."""
    place = Path(call("snapshot_download", REPO, local_dir=folder, **options))
    files = [path for path in place.rglob("*") if path.is_file() and ".cache" not in path.parts]
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in files}


def status(hub: HubServer, path: str, **headers: str) -> tuple[int, bytes]:
    """Status and body of a bare request."""
    try:
        with urlopen(Request(hub.url + path, headers=headers)) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


# Users and repos.


@pytest.mark.parametrize(("role", "shown"), [("write", "write"), ("read", "read"), ("none", "fineGrained")])
def test_a_token_has_a_name_and_a_role(
    hub: HubServer, api: Callable[..., Call], role: Any, shown: str
) -> None:
    who = api(hub.add_user("ada", role, orgs=["club"]))("whoami")
    assert (who["name"], who["auth"]["accessToken"]["role"]) == ("ada", shown)
    assert [org["name"] for org in who["orgs"]] == ["club"]


def test_a_new_repo_has_one_commit_and_is_not_made_twice(hub: HubServer, api: Callable[..., Call]) -> None:
    ada = api(hub.add_user("ada"))
    url = ada("create_repo", REPO, private=True)
    assert url == f"{hub.url}/{REPO}" == ada("create_repo", REPO, exist_ok=True)
    assert hub.repo(REPO).private, "exist_ok changes nothing"
    assert (list(hub.repo(REPO).files()), len(hub.repo(REPO).commits())) == ([".gitattributes"], 1)
    with pytest.raises(HfHubHTTPError, match="already created"):
        ada("create_repo", REPO)
    ada("delete_repo", REPO)
    assert not hub.repos


@pytest.mark.parametrize("role", ["read", "none"])
def test_only_a_write_token_of_the_namespace_writes(
    hub: HubServer, api: Callable[..., Call], ada: Call, role: Any
) -> None:
    for token in (hub.add_user("ada", role), hub.add_user("bob", role), hub.add_user("bob")):
        with pytest.raises(HfHubHTTPError, match="403"):
            api(token)("create_commit", REPO, adding(a_txt=b"a"), commit_message="mine")
        with pytest.raises(HfHubHTTPError, match="403"):
            api(token)("create_repo", "ada/more")
    assert len(hub.repo(REPO).commits()) == 2


@pytest.mark.parametrize("who", ["nobody", "stranger", "liar", "powerless"])
def test_a_private_repo_is_as_one_that_does_not_exist(
    hub: HubServer, api: Callable[..., Call], ada: Call, who: str
) -> None:
    ada("update_repo_settings", REPO, private=True)
    tokens: dict[str, str | bool] = {
        "nobody": False,
        "stranger": hub.add_user("bob"),
        "liar": "hf_wrong",
        "powerless": hub.add_user("ada", "none"),
    }
    token = tokens[who]
    heads = {"Authorization": f"Bearer {token}"} if token else {}
    answers = []
    for name in (REPO, "ada/xxx"):
        paths = [f"/api/models/{name}{part}" for part in ("", "/tree/main", "/refs", "/commits/main")]
        answers.append([status(hub, path, **heads) for path in (*paths, f"/{name}/resolve/main/task.json")])
        with pytest.raises(HfHubHTTPError if who == "liar" else RepositoryNotFoundError):
            api(token)("model_info", name)
    assert answers[0] == answers[1]
    assert {code for code, _ in answers[0]} == {404 if who in ("stranger", "powerless") else 401}
    assert (not api()("list_models"), ada("model_info", REPO).private) == (True, True)


# Up.


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


# Refs.


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


# Known of models.


def test_a_model_is_described_by_its_card_and_files(hub: HubServer, ada: Call) -> None:
    info = ada("model_info", REPO, files_metadata=True)
    assert (info.sha, info.library_name, info.pipeline_tag) == (
        hub.repo(REPO).head(),
        "peft",
        "token-classification",
    )
    assert {"onetrunk", "ner", "safetensors", "base_model:org/base"} <= set(info.tags)
    assert (info.card_data.base_model, info.author, info.private) == ("org/base", "ada", False)
    files = {file.rfilename: file for file in info.siblings}
    weights, task = files["adapter.safetensors"], files["task.json"]
    assert (weights.size, weights.lfs.sha256) == (len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest())
    body = FILES["task.json"]
    git = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
    assert (task.size, task.blob_id, task.lfs) == (len(body), git, None)
    assert ada("model_info", REPO).siblings[0].size is None


def test_a_tree_is_listed_by_folder_or_whole_over_pages(hub: HubServer, ada: Call) -> None:
    made = hub.repo(REPO).commit({"a/b/c": b"1", "a/d": b"2"}, "Deep")
    paths = [entry.path for entry in ada("list_repo_tree", REPO)]
    assert paths == [".gitattributes", "README.md", "a", "adapter.safetensors", "task.json"]
    whole = ada("list_repo_tree", REPO, recursive=True, expand=True)
    assert [entry.path for entry in whole] == sorted([*paths, "a/b", "a/b/c", "a/d"])
    assert len(hub.asked("recursive=true")) == 3
    assert {e.path for e in whole if e.last_commit.oid == made} == {"a", "a/b", "a/b/c", "a/d"}
    assert [entry.path for entry in ada("list_repo_tree", REPO, path_in_repo="a")] == ["a/b", "a/d"]
    with pytest.raises(RemoteEntryNotFoundError):
        ada("list_repo_tree", REPO, path_in_repo="b")


def test_paths_are_described(ada: Call) -> None:
    found = ada("get_paths_info", REPO, ["adapter.safetensors", "missing"])
    assert [(file.path, file.size, file.lfs.size) for file in found] == [
        ("adapter.safetensors", len(WEIGHTS), len(WEIGHTS))
    ]


def test_models_are_found_by_tags_name_and_author_over_pages(hub: HubServer, ada: Call) -> None:
    for n in range(5):
        extra = b"\n- even" if n % 2 == 0 else b""
        hub.create_repo(f"club/m{n}").commit({"README.md": b"---\ntags:\n- onetrunk%s\n---\n" % extra})
    hub.create_repo("club/secret", private=True).commit({"README.md": CARD})

    def names(**options: Any) -> list[str]:
        return [model.id for model in ada("list_models", **options)]

    assert names() == [*(f"club/m{n}" for n in (4, 3, 2, 1, 0)), REPO]
    assert len(hub.asked("GET /api/models")) == 2
    assert names(filter=["onetrunk", "even"]) == ["club/m4", "club/m2", "club/m0"]
    assert names(filter="base_model:adapter:org/base") == []
    assert names(filter="base_model:org/base") == names(author="ada") == names(search="NER") == [REPO]
    assert names(filter="onetrunk", limit=4) == [f"club/m{n}" for n in (4, 3, 2, 1)]
    hub.repo(REPO).commit({"n": b""})
    assert names(sort="last_modified", limit=1) == [REPO]
    full = ada("list_models", author="ada", full=True)[0]
    assert full.sha == hub.repo(REPO).head()
    assert full.last_modified > full.created_at


# Down.


def test_a_snapshot_is_what_was_pushed(
    hub: HubServer, api: Callable[..., Call], ada: Call, tmp_path: Path
) -> None:
    ada("create_tag", REPO, tag="v1")
    hub.repo(REPO).commit({"task.json": None, "new": b"new"})
    tagged, newest = (pulled(api(), tmp_path / rev, revision=rev) for rev in ("v1", "main"))
    assert (tagged, newest) == (hub.repo(REPO).files("v1"), hub.repo(REPO).files())
    assert FILES.items() <= tagged.items()


def test_a_cached_file_is_not_sent_twice(hub: HubServer, ada: Call, tmp_path: Path) -> None:
    for _ in range(2):
        path = ada("hf_hub_download", REPO, "adapter.safetensors", cache_dir=tmp_path)
        assert Path(path).read_bytes() == WEIGHTS
    sent = [(r.method, r.token) for r in hub.requests if r.path.startswith("/storage/")]
    assert sent == [("GET", False)], "the storage is another origin: no token goes there"


def test_what_is_missing_is_named(hub: HubServer, ada: Call, tmp_path: Path) -> None:
    with pytest.raises(RevisionNotFoundError):
        ada("snapshot_download", REPO, revision="v9", cache_dir=tmp_path)
    with pytest.raises(RemoteEntryNotFoundError) as caught:
        ada("hf_hub_download", REPO, "nothing.txt", cache_dir=tmp_path)
    assert caught.value.response.headers["X-Repo-Commit"] == hub.repo(REPO).head()
    with pytest.raises(RepositoryNotFoundError):
        ada("hf_hub_download", "ada/other", "task.json", cache_dir=tmp_path)


@pytest.mark.parametrize("name", ["task.json", "adapter.safetensors"])
def test_parts_of_files_are_sent(hub: HubServer, ada: Call, name: str) -> None:
    body, path = FILES[name], f"/{REPO}/resolve/main/{name}"
    for wanted, part in (("3-", body[3:]), ("2-5", body[2:6]), ("-4", body[-4:])):
        assert status(hub, path, Range=f"bytes={wanted}") == (206, part)
    assert status(hub, path, Range=f"bytes={len(body)}-")[0] == 416
    assert status(hub, path) == (200, body)


# Faults.


def test_a_500_is_answered_once(hub: HubServer, ada: Call) -> None:
    hub.faults.at(2, "500", f"GET /api/models/{REPO}$")
    ada("model_info", REPO)
    with pytest.raises(HfHubHTTPError, match="500"):
        ada("model_info", REPO)
    ada("model_info", REPO)
    assert ([r.status for r in hub.requests], hub.faults.left) == ([200, 500, 200], 0)


def test_a_429_says_when_to_come_again(hub: HubServer, ada: Call) -> None:
    hub.faults.at(1, "429", "GET .*/tree/", seconds=0)
    assert len(ada("list_repo_tree", REPO)) == 4
    assert [(r.status, r.fault) for r in hub.requests][:2] == [(429, "429"), (200, None)]


def test_a_dropped_request_is_not_carried_out(hub: HubServer, ada: Call) -> None:
    hub.faults.at(1, "drop", "POST .*/commit/")
    with pytest.raises(Exception, match="reset by peer"):
        ada("create_commit", REPO, adding(b=b"b"), commit_message="Lost")
    assert "b" not in hub.repo(REPO).files()


def test_a_reset_loses_the_answer_not_the_commit(hub: HubServer, ada: Call) -> None:
    hub.faults.at(1, "reset", "POST .*/commit/")
    with pytest.raises(Exception, match="reset by peer"):
        ada("create_commit", REPO, adding(b=b"b"), commit_message="Done")
    assert hub.repo(REPO).files()["b"] == b"b"


def test_a_truncated_download_is_asked_for_again(hub: HubServer, ada: Call, tmp_path: Path) -> None:
    hub.faults.at(1, "truncate", "GET /storage/")
    path = ada("hf_hub_download", REPO, "adapter.safetensors", cache_dir=tmp_path)
    assert Path(path).read_bytes() == WEIGHTS
    parts = [(r.range, r.fault) for r in hub.requests if r.path.startswith("/storage/")]
    assert parts == [(None, "truncate"), (None, None)], "the client keeps whole chunks only"


def test_a_truncated_download_goes_on_after_the_last_whole_chunk(
    hub: HubServer, ada: Call, tmp_path: Path
) -> None:
    hub.repo(REPO).commit({"adapter.safetensors": bytes(DOWNLOAD_CHUNK_SIZE * 5 // 2)})
    hub.faults.at(1, "truncate", "GET /storage/")
    path = ada("hf_hub_download", REPO, "adapter.safetensors", cache_dir=tmp_path)
    assert Path(path).stat().st_size == DOWNLOAD_CHUNK_SIZE * 5 // 2
    parts = [r.range for r in hub.requests if r.path.startswith("/storage/")]
    assert parts == [None, f"bytes={DOWNLOAD_CHUNK_SIZE}-"]


@pytest.mark.parametrize("name", ["task.json", "adapter.safetensors"])
def test_a_flipped_byte_passes_the_client(hub: HubServer, ada: Call, tmp_path: Path, name: str) -> None:
    hub.faults.at(1, "flip")
    got = Path(ada("hf_hub_download", REPO, name, cache_dir=tmp_path)).read_bytes()
    assert [n for n, pair in enumerate(zip(got, FILES[name], strict=True)) if len(set(pair)) > 1] == [
        len(got) // 2
    ]


def test_a_slow_answer_is_late(hub: HubServer, ada: Call) -> None:
    hub.faults.at(1, "slow", seconds=0.3)
    begun = time.monotonic()
    ada("model_info", REPO)
    assert time.monotonic() - begun > 0.3
    hub.faults.at(1, "slow", seconds=5)
    with pytest.raises(Exception, match="timed out"):
        ada("model_info", REPO, timeout=0.2)


def test_a_fault_strikes_as_often_as_told(hub: HubServer, ada: Call) -> None:
    hub.faults.at(2, "500", lambda request: request.method == "GET" and request.token, times=2)
    for _ in range(5):
        with suppress(HfHubHTTPError):
            ada("whoami")
    assert [r.status for r in hub.requests] == [200, 500, 500, 200, 200]
    with pytest.raises(ValueError, match="no fault 'melt'"):
        hub.faults.at(1, "melt")  # type: ignore[arg-type]


# The rest of the contract.


@pytest.mark.parametrize("known", [True, False])
def test_a_child_process_knows_only_this_hub(hub: HubServer, ada: Call, tmp_path: Path, known: bool) -> None:
    hub.repo(REPO).private = True
    code = f"import huggingface_hub as h; print(h.model_info({REPO!r}).sha)"
    token = hub.add_user("ada") if known else None
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=hub.environment(token, cache=tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    if known:
        assert ran.stdout.strip() == hub.repo(REPO).head()
    else:
        assert "RepositoryNotFoundError" in ran.stderr
    assert [(str(r), r.token) for r in hub.requests] == [(f"GET /api/models/{REPO}", known)]


def test_the_log_never_has_a_token(hub: HubServer, api: Callable[..., Call]) -> None:
    token = hub.add_user("ada")
    ada = api(token)
    ada("create_repo", REPO)
    ada("create_commit", REPO, adding(a_bin=b"\0"), commit_message="Push")
    assert any(request.token for request in hub.requests)
    assert token not in repr(hub.requests)


def test_what_this_hub_cannot_do_fails_the_test_not_the_client_alone() -> None:
    with pytest.raises(NotImplementedError, match="GET /api/spaces"), HubServer() as hub:
        code, body = status(hub, "/api/spaces")
    assert (code, "bug of the test Hub" in json.loads(body)["error"]) == (501, True)
