"""A shared folder: a commit id always means the same content, and a crash leaves nothing behind for good."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from onetrunk.adapters.errors import RemoteDamaged, RemoteNotFound
from onetrunk.adapters.remotes.folder import COMMITS, RECORD, FolderRemote
from onetrunk.adapters.remotes.locations import Location
from onetrunk.adapters.remotes.remote import MAIN, Published

LIMIT = 2**20


@pytest.fixture
def remote(tmp_path: Path) -> FolderRemote:
    return FolderRemote(Location("folder", str(tmp_path / "shared")))


def publish(remote: FolderRemote, text: str, parent: str | None = None) -> Published:
    folder = Path(remote.location.place)
    folder.mkdir(exist_ok=True)
    path = folder.with_name("new")
    path.write_text(text)
    return remote.publish(
        {"task.json": path, "README.md": path}, branch=MAIN, parent=parent, message=text, pull_request=False
    )


def commits(remote: FolderRemote) -> set[str]:
    return set(os.listdir(Path(remote.location.place) / COMMITS))


def test_a_commit_has_the_hashes_of_its_files(remote: FolderRemote) -> None:
    commit = remote.commit(publish(remote, "one").commit)
    assert all(file.matches(b"one") and file.sha256 for file in commit.files.values())


def test_a_file_that_was_replaced_is_refused(remote: FolderRemote) -> None:
    commit = publish(remote, "one").commit
    (Path(remote.location.place) / COMMITS / commit / "task.json").write_text("two")
    with pytest.raises(
        RemoteDamaged, match=r"task\.json of commit .* was changed after it had been published"
    ):
        remote.fetch(remote.commit(commit), "task.json", LIMIT, lambda _: None)


def test_hashes_that_were_replaced_are_refused(remote: FolderRemote) -> None:
    commit = publish(remote, "one").commit
    record = Path(remote.location.place) / COMMITS / commit / RECORD
    record.write_text(record.read_text().replace('"one"', '"two"'))
    with pytest.raises(RemoteDamaged, match=r"commit\.json of commit .* was changed"):
        remote.commit(commit)


def test_a_file_that_was_put_beside_is_not_part_of_a_commit(remote: FolderRemote) -> None:
    commit = publish(remote, "one").commit
    (Path(remote.location.place) / COMMITS / commit / "head.safetensors").write_text("x")
    assert set(remote.commit(commit).files) == {"task.json", "README.md"}


def test_refs_of_the_schema_before_are_read(remote: FolderRemote) -> None:
    commit = publish(remote, "one").commit
    refs = {"schema": 1, "branches": {"main": commit}, "tags": {}}
    (Path(remote.location.place) / "refs.json").write_text(json.dumps(refs))
    assert remote.commit(None).id == commit


def left_by_crash(remote: FolderRemote, parent: str) -> Iterator[str]:
    """Publish in processes that are killed, until one leaves a commit that no branch has; yield its id."""
    for attempt in range(400):
        before = commits(remote)
        pid = os.fork()
        if not pid:
            try:
                publish(remote, f"crash {attempt}", parent)
            finally:
                os._exit(0)
        until = time.monotonic() + 10
        while commits(remote) == before and time.monotonic() < until:
            pass
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        (new,) = commits(remote) - before
        if remote.commit(None).id != new:
            yield new
            return
        parent = new
    pytest.fail("no process was killed between the two steps of a push")


def test_what_a_crash_left_is_not_a_commit_and_goes_with_the_next_push(remote: FolderRemote) -> None:
    first = publish(remote, "one").commit
    (orphan,) = left_by_crash(remote, first)
    with pytest.raises(RemoteNotFound, match="there is no revision"):
        remote.commit(orphan)
    kept = commits(remote) - {orphan}
    done = publish(remote, "two", remote.commit(None).id)
    assert commits(remote) == {*kept, done.commit}
