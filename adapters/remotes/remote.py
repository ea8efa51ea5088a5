"""The interface of a remote: a repo on the Hub or a shared folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Protocol

from onetrunk.adapters.format.files import sha256
from onetrunk.adapters.remotes.locations import Location

MAIN = "main"

OnBytes = Callable[[int], None]
"""Called during a download with the number of bytes that have arrived since the last call."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a commit.

    size: bytes.
    sha256: hash of the content; None if the remote does not know it.
    blob: git's id of the content; None if the remote does not know it.
    """

    name: str
    size: int
    sha256: str | None = None
    blob: str | None = None

    def matches(self, data: bytes) -> bool:
        """Tell whether `data` has the size and the hashes of this file."""
        git_id = sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        return len(data) == self.size and self.sha256 in (None, sha256(data)) and self.blob in (None, git_id)


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of a remote. id: 40 hexadecimal digits. files: by name."""

    id: str
    files: Mapping[str, RemoteFile]


@dataclass(frozen=True, slots=True)
class Published:
    """The result of a push.

    commit: id of the new commit.
    url: page of the commit, or the location of a folder.
    pull_request: URL of the pull request; None if the push has made none.
    """

    commit: str
    url: str
    pull_request: str | None = None


class Remote(Protocol):
    """Holds the published commits of one adapter, with branches and tags. Every method may raise RemoteError.

    endpoint: URL of the Hub; None for a folder.
    """

    location: Location
    endpoint: str | None

    def commit(self, revision: str | None) -> Commit:
        """Return the commit that a branch, tag or commit id names now; None: `main`. Raises RemoteNotFound."""

    def fetch(self, commit: Commit, name: str, limit: int, advance: OnBytes) -> bytes:
        """Return the content of the file `name` of a commit, checked against its hashes.

        Raises RemoteNotFound for an unknown name, RemoteError for more than `limit` bytes, RemoteDamaged.
        """

    def create(self, private: bool) -> bool:
        """Create the repo or folder if it does not exist. Return whether it was created.

        private: whether only its owner may read it.
        """

    def publish(
        self, files: Mapping[str, Path], *, branch: str, parent: str | None, message: str, pull_request: bool
    ) -> Published:
        """Make one commit of `files` on `branch`. Other files are deleted, unless their names begin with a dot.

        files: path of each file by its name in the commit.
        parent: id of the newest commit of the branch, as the caller has read it; None if there was no branch.
        pull_request: make a pull request instead of moving the branch.

        Raises RemoteConflict, without any change, if the newest commit of the branch is another one now.
        """

    def tag(self, name: str, commit: str) -> None:
        """Create the tag `name` on `commit`. Raises RemoteConflict if the tag is on another commit."""
