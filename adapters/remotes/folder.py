"""A shared folder as a remote, for teams without the Hub.

<folder>/refs.json        branches and tags; replaced atomically
<folder>/commits/<id>/    the files of one commit, and `.commit.json` with its parent, its message and the hashes of
                          its files; the id is the hash of `.commit.json`, so an id always means the same content
<folder>/.staging/, .lock commits in preparation, and the lock that a push holds
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from hashlib import sha1
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from onetrunk.adapters.errors import (
    RemoteConflict,
    RemoteDamaged,
    RemoteError,
    RemoteNotFound,
    StoreBusy,
    StoreError,
    first_few,
)
from onetrunk.adapters.format import files, strict_json
from onetrunk.adapters.format.files import FileFault, FileMissing, read_regular, sha256
from onetrunk.adapters.format.records import RecordFault, Sha256, closed, matching, read
from onetrunk.adapters.remotes.locations import Location, is_commit
from onetrunk.adapters.remotes.remote import MAIN, Commit, OnBytes, Published, RemoteFile
from onetrunk.adapters.store.staging import locked, stage

REFS = "refs.json"
COMMITS = "commits"
RECORD = ".commit.json"
_LOCK_SECONDS = 30.0
_Commit: TypeAlias = Annotated[str, matching("[0-9a-f]{40}", "the id of a commit")]


@closed
@dataclass(frozen=True, slots=True)
class _Refs:
    """The content of `refs.json`; schema 1 has no `rubbish`.

    branches, tags: name → id of a commit.
    rubbish: ids of commits that were never published; the next push deletes their folders.
    """

    branches: Mapping[str, _Commit]
    tags: Mapping[str, _Commit]
    rubbish: tuple[_Commit, ...] = ()
    schema: Literal[1, 2] = 2


@closed
@dataclass(frozen=True, slots=True)
class _CommitRecord:
    """The content of `.commit.json`. created: ISO 8601 in UTC. files: name → sha256."""

    schema: Literal[1]
    parent: _Commit | None
    message: str
    created: str
    files: Mapping[str, Sha256]


class FolderRemote:
    """An adapter in a shared folder. Safe for many processes at once, on one machine or on a shared disk."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self.endpoint: str | None = None
        self._root = Path(location.place)

    def commit(self, revision: str | None) -> Commit:
        """Return the commit that a branch, tag or commit id names now. Raises RemoteNotFound."""
        refs = self._refs()
        wanted = revision or MAIN
        known = {**refs.tags, **refs.branches}
        found = known.get(wanted, wanted if is_commit(wanted) else None)
        try:
            if found is None or found in refs.rubbish or not (self._root / COMMITS / found).is_dir():
                offer = (
                    f"known: {first_few(sorted(known), 20)}" if known else "nothing has been published there"
                )
                raise RemoteNotFound(self.location, f"there is no revision {wanted!r}; {offer}")
            hashes = self._hashes(found)
            files = {}
            for path in sorted((self._root / COMMITS / found).iterdir()):
                if path.name in hashes:
                    files[path.name] = RemoteFile(path.name, path.lstat().st_size, hashes[path.name])
        except OSError as error:
            raise RemoteError(self.location, f"cannot be read ({error.strerror or error})") from error
        return Commit(found, files)

    def fetch(self, commit: Commit, name: str, limit: int, advance: OnBytes) -> bytes:
        """Return a file, checked against its hash. Raises RemoteNotFound, RemoteError, RemoteDamaged."""
        data = self._read(commit.id, name, limit)
        if name not in commit.files or not commit.files[name].matches(data):
            raise self._damaged(commit.id, name)
        advance(len(data))
        return data

    def create(self, private: bool) -> bool:
        """Create the folder; return whether it was new. Raises RemoteError, also for `private`."""
        if private:
            why = "the permissions of a folder decide who may read it; leave --private out"
            raise RemoteError(self.location, why)
        try:
            new = not self._root.exists()
            self._root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RemoteError(self.location, f"the folder cannot be created ({error.strerror})") from error
        return new

    def publish(
        self, files: Mapping[str, Path], *, branch: str, parent: str | None, message: str, pull_request: bool
    ) -> Published:
        """Publish a commit of exactly `files` and move `branch` to it. Raises RemoteConflict, RemoteError."""
        if pull_request:
            why = "a folder has no pull requests; push to another branch with --branch"
            raise RemoteError(self.location, why)
        try:
            with stage(self._root, _LOCK_SECONDS) as work, locked(self._root, _LOCK_SECONDS):
                return self._enter(work / "commit", files, branch, parent, message)
        except StoreBusy as error:
            raise RemoteConflict(self.location, "it is locked by another push; try again") from error
        except StoreError as error:
            raise RemoteError(self.location, f"it cannot be written to ({error.__cause__})") from error

    def tag(self, name: str, commit: str) -> None:
        """Create the tag `name` on `commit`. Raises RemoteConflict if the tag is on another commit."""
        try:
            with locked(self._root, _LOCK_SECONDS):
                refs = self._refs()
                if refs.tags.get(name, commit) != commit:
                    raise RemoteConflict(
                        self.location, f"the tag {name!r} is on another commit; choose another"
                    )
                self._write(replace(refs, tags={**refs.tags, name: commit}))
        except StoreError as error:
            raise RemoteError(self.location, f"it cannot be written to ({error})") from error

    def _enter(
        self, folder: Path, new: Mapping[str, Path], branch: str, parent: str | None, message: str
    ) -> Published:
        """Make a commit in the new `folder` and move `branch` to it. The caller holds the lock."""
        refs = self._refs()
        head = refs.branches.get(branch)
        if head != parent:
            raise RemoteConflict(self.location, f"another push was faster: {branch} has changed; push again")
        folder.mkdir()
        for name, path in new.items():
            shutil.copyfile(path, folder / name)
        hashes = {path.name: sha256(path.read_bytes()) for path in sorted(folder.iterdir())}
        created = datetime.now(UTC).isoformat(timespec="microseconds")
        content = strict_json.dump(asdict(_CommitRecord(1, parent, message, created, hashes)))
        identity = _identity(content)
        files.write_new(folder / RECORD, content)
        commits = self._root / COMMITS
        commits.mkdir(exist_ok=True)
        for each in refs.rubbish:
            if (commits / each).is_dir():
                (commits / each).rename(folder.with_name(each))  # deleted together with the stage
        self._write(replace(refs, rubbish=(identity,)))
        files.move_folder(folder, commits / identity)
        # from here on the commit is published
        self._write(_Refs({**refs.branches, branch: identity}, refs.tags))
        return Published(identity, str(self.location))

    def _read(self, commit: str, name: str, limit: int) -> bytes:
        try:
            return read_regular(self._root / COMMITS / commit / name, limit)
        except FileMissing as error:
            raise RemoteNotFound(self.location, f"{name} is missing in commit {commit[:12]}") from error
        except FileFault as error:
            raise RemoteError(self.location, f"{name} {error}") from error

    def _hashes(self, commit: str) -> Mapping[str, str]:
        """Return the sha256 of each file of a commit, as `.commit.json` records it."""
        data = self._read(commit, RECORD, strict_json.MAX_BYTES)
        if _identity(data) != commit:
            raise self._damaged(commit, RECORD)
        try:
            return read(_CommitRecord, strict_json.parse(data)).files
        except (FileFault, RecordFault) as error:
            raise RemoteError(self.location, f"{RECORD} is faulty: {error}") from error

    def _damaged(self, commit: str, name: str) -> RemoteDamaged:
        return RemoteDamaged(
            self.location,
            f"{name} of commit {commit[:12]} was changed after it had been published; restore it, or publish to "
            "another branch",
        )

    def _refs(self) -> _Refs:
        try:
            value = strict_json.parse(read_regular(self._root / REFS, strict_json.MAX_BYTES))
            return replace(read(_Refs, value), schema=2)
        except FileMissing:
            return _Refs({}, {})
        except FileFault as error:
            raise RemoteError(self.location, f"{REFS} {error}") from error
        except RecordFault as error:
            raise RemoteError(self.location, f"{REFS} is faulty: {error}") from error

    def _write(self, refs: _Refs) -> None:
        files.replace(self._root / REFS, strict_json.dump(asdict(refs)))


def _identity(record: bytes) -> str:
    """Return the id of the commit with this `.commit.json`."""
    return sha1(record, usedforsecurity=False).hexdigest()
