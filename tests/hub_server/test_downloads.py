"""Snapshots, single files and byte ranges."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from tests.hub_server import HubServer
from tests.hub_server.sample_repo import FILES, REPO, WEIGHTS, Call, status


def pulled(call: Call, folder: Path, **options: Any) -> dict[str, bytes]:
    """Download REPO to a new folder; return the files in it, by path."""
    place = Path(call("snapshot_download", REPO, local_dir=folder, **options))
    files = [path for path in place.rglob("*") if path.is_file() and ".cache" not in path.parts]
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in files}


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


def test_a_missing_revision_file_and_repo_each_have_their_error(
    hub: HubServer, ada: Call, tmp_path: Path
) -> None:
    with pytest.raises(RevisionNotFoundError):
        ada("snapshot_download", REPO, revision="v9", cache_dir=tmp_path)
    with pytest.raises(RemoteEntryNotFoundError) as caught:
        ada("hf_hub_download", REPO, "nothing.txt", cache_dir=tmp_path)
    assert caught.value.response.headers["X-Repo-Commit"] == hub.repo(REPO).head()
    with pytest.raises(RepositoryNotFoundError):
        ada("hf_hub_download", "ada/other", "task.json", cache_dir=tmp_path)


@pytest.mark.parametrize("name", ["task.json", "adapter.safetensors"])
def test_byte_ranges_of_files_are_served(hub: HubServer, ada: Call, name: str) -> None:
    body, path = FILES[name], f"/{REPO}/resolve/main/{name}"
    for wanted, part in (("3-", body[3:]), ("2-5", body[2:6]), ("-4", body[-4:])):
        assert status(hub, path, Range=f"bytes={wanted}") == (206, part)
    assert status(hub, path, Range=f"bytes={len(body)}-")[0] == 416
    assert status(hub, path) == (200, body)
