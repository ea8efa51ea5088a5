"""Descriptions, file lists and searches of models."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from huggingface_hub.errors import RemoteEntryNotFoundError

from tests.hub_server import HubServer
from tests.hub_server.sample_repo import CARD, FILES, REPO, WEIGHTS, Call


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
