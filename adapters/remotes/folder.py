"""A shared folder as a remote, for teams without the Hub: commits that never change, branches and tags as one file.

<folder>/refs.json        branches and tags, replaced atomically
<folder>/commits/<id>/    the files of a commit, and `.commit.json` with its parent and message
<folder>/.staging/, .lock commits being prepared; the lock of those who publish
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha1
from pathlib import Path

from onetrunk.adapters.errors import RemoteConflict, RemoteError, RemoteNotFound, StoreBusy, StoreError
from onetrunk.adapters.format import files, strict_json
from onetrunk.adapters.format.fields import Fields
from onetrunk.adapters.format.files import (
    FileFault,
    FileMissing,
    read_regular,
    sha256,
    sync_files,
    sync_folder,
)
from onetrunk.adapters.remotes.locations import Location, is_commit
from onetrunk.adapters.remotes.remote import MAIN, Advance, Commit, Published, RemoteFile
from onetrunk.adapters.store.staging import locked, stage

REFS = "refs.json"
COMMITS = "commits"
RECORD = ".commit.json"
_SCHEMA = 1
_LOCK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Refs:
    branches: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


class FolderRemote:
    """The adapter that is shared in a folder. Safe to use from many processes, on one machine or a shared disk."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self._root = Path(location.place)

    def commit(self, revision: str | None) -> Commit:
        """As `Remote` has it."""
        with self._reading():
            refs = self._refs()
            wanted = revision or MAIN
            known = {**refs.tags, **refs.branches}
            found = known.get(wanted, wanted if is_commit(wanted) else None)
            if found is None or not (folder := self._root / COMMITS / found).is_dir():
                offer = f"known: {', '.join(sorted(known))}" if known else "nothing has been published there"
                raise RemoteNotFound(str(self.location), f"there is no revision {wanted!r}; {offer}")
            entries = [path for path in sorted(folder.iterdir()) if path.name != RECORD]
            return Commit(found, {path.name: RemoteFile(path.name, path.lstat().st_size) for path in entries})

    def fetch(self, commit: Commit, name: str, limit: int, advance: Advance) -> bytes:
        """As `Remote` has it."""
        try:
            with self._reading():
                data = read_regular(self._root / COMMITS / commit.id / name, limit)
        except FileMissing as error:
            raise RemoteNotFound(
                str(self.location), f"{name} is missing in commit {commit.id[:12]}"
            ) from error
        except FileFault as error:
            raise RemoteError(str(self.location), f"{name} {error}") from error
        advance(len(data))
        return data

    def create(self, private: bool) -> bool:
        """As `Remote` has it; who may read a folder is for its owner to say."""
        if private:
            raise RemoteError(
                str(self.location), "a folder is as private as its permissions; leave --private out"
            )
        try:
            new = not self._root.exists()
            self._root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RemoteError(str(self.location), f"cannot be made ({error.strerror})") from error
        return new

    def publish(
        self, files: Mapping[str, Path], *, branch: str, parent: str | None, message: str, pull_request: bool
    ) -> Published:
        """As `Remote` has it."""
        if pull_request:
            raise RemoteError(str(self.location), "a folder has no pull requests; push to a --branch")
        try:
            with stage(self._root, _LOCK_SECONDS) as work, locked(self._root, _LOCK_SECONDS):
                return self._enter(work / "commit", files, branch, parent, message)
        except StoreBusy as error:
            raise RemoteConflict(str(self.location), "it is locked by another push; try again") from error
        except StoreError as error:
            raise RemoteError(str(self.location), f"it cannot be written to ({error.__cause__})") from error

    def tag(self, name: str, commit: str) -> None:
        """As `Remote` has it."""
        try:
            with locked(self._root, _LOCK_SECONDS):
                refs = self._refs()
                if refs.tags.get(name, commit) != commit:
                    raise RemoteConflict(
                        str(self.location), f"the tag {name!r} is on another commit; choose another"
                    )
                self._write(_Refs(refs.branches, {**refs.tags, name: commit}))
        except StoreError as error:
            raise RemoteError(str(self.location), f"it cannot be written to ({error})") from error

    def _enter(
        self, folder: Path, new: Mapping[str, Path], branch: str, parent: str | None, message: str
    ) -> Published:
        """Make the commit and move the branch; the caller holds the lock."""
        refs = self._refs()
        head = refs.branches.get(branch)
        if head != parent:
            raise RemoteConflict(str(self.location), f"{branch} has moved to {(head or 'nothing')[:12]}")
        folder.mkdir()
        for name, path in new.items():
            shutil.copyfile(path, folder / name)
        hashes = {path.name: sha256(path.read_bytes()) for path in sorted(folder.iterdir())}
        record = {
            "schema": _SCHEMA,
            "parent": parent,
            "message": message,
            "created": datetime.now(UTC).isoformat(timespec="microseconds"),
            "files": hashes,
        }
        identity = sha1(strict_json.dump(record), usedforsecurity=False).hexdigest()
        files.write_new(folder / RECORD, strict_json.dump(record))
        sync_files(folder)
        (self._root / COMMITS).mkdir(exist_ok=True)
        folder.rename(self._root / COMMITS / identity)
        sync_folder(self._root / COMMITS)
        self._write(_Refs({**refs.branches, branch: identity}, refs.tags))  # now it is published
        return Published(identity, str(self.location))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn an OSError, such as of a name that is too long for the disk, into a RemoteError."""
        try:
            yield
        except OSError as error:
            raise RemoteError(str(self.location), f"cannot be read ({error.strerror or error})") from error

    def _refs(self) -> _Refs:
        try:
            value = strict_json.parse(read_regular(self._root / REFS, strict_json.MAX_BYTES))
        except FileMissing:
            return _Refs()
        except FileFault as error:
            raise RemoteError(str(self.location), f"{REFS} {error}") from error
        fields = Fields(value)
        if fields.whole("schema", 1) != _SCHEMA:
            fields.fault("schema", f"must be {_SCHEMA}")
        refs = _Refs(fields.json("branches"), fields.json("tags"))
        fields.done()
        if not all(
            isinstance(own, str) and is_commit(own) for own in (*refs.branches.values(), *refs.tags.values())
        ):
            fields.fault("branches", "and tags must name commits")
        if fields.faults:
            raise RemoteError(str(self.location), f"{REFS} is faulty: {fields.summary()}")
        return refs

    def _write(self, refs: _Refs) -> None:
        value = {"schema": _SCHEMA, "branches": dict(refs.branches), "tags": dict(refs.tags)}
        files.replace(self._root / REFS, strict_json.dump(value))
