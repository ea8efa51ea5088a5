"""The interface of a remote, which the Hub and shared folders implement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path
from typing import Protocol

from onetrunk.adapters.format.files import sha256
from onetrunk.adapters.remotes.locations import Location

MAIN = "main"
"""The default branch."""

OnBytes = Callable[[int], None]
"""Callback of a download: called with the number of bytes of each part that has arrived."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a commit.

    size: bytes.
    sha256: hash of the content; None if the remote does not know it.
    blob: git's id of the content (see `git_blob`); None if the remote does not know it.
    """

    name: str
    size: int
    sha256: str | None = None
    blob: str | None = None

    def matches(self, data: bytes) -> bool:
        """Tell whether `data` has the size and the hashes of this file."""
        return (
            len(data) == self.size
            and self.sha256 in (None, sha256(data))
            and self.blob in (None, git_blob(data))
        )


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of a remote. id: 40 hexadecimal digits. files: by name."""

    id: str
    files: Mapping[str, RemoteFile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Published:
    """The result of a push.

    commit: id of the new commit.
    url: page of the commit.
    pull_request: URL of the pull request; None if the push was not one.
    """

    commit: str
    url: str
    pull_request: str | None = None


class Remote(Protocol):
    """A place that holds one adapter: commits on branches, with tags. Every method may raise RemoteError."""

    location: Location

    @property
    def endpoint(self) -> str | None:
        """The URL of the Hub; None for a folder."""

    def commit(self, revision: str | None) -> Commit:
        """Return the commit that a branch, tag or commit id names now; None: `main`. Raises RemoteNotFound."""

    def fetch(self, commit: Commit, name: str, limit: int, advance: OnBytes) -> bytes:
        """Return the content of a file of `commit`, checked against the hashes that the remote knows.

        Raises RemoteNotFound for an unknown name, RemoteError for more than `limit` bytes, RemoteDamaged.
        """

    def create(self, private: bool) -> bool:
        """Create the repo or folder if it does not exist. Return whether it was created.

        private: whether only its owner may read it.
        """

    def publish(
        self, files: Mapping[str, Path], *, branch: str, parent: str | None, message: str, pull_request: bool
    ) -> Published:
        """Make one commit on `branch` that holds exactly `files`, and the remote's own files, which begin with a
        dot.

        files: path of each file by its name in the commit.
        parent: id of the branch's head as the caller has read it; None if the branch did not exist.
        pull_request: make a pull request instead of moving the branch.

        Raises RemoteConflict, without any change, if the head of the branch is another commit now.
        """

    def tag(self, name: str, commit: str) -> None:
        """Create the tag `name` on `commit`. Raises RemoteConflict if the tag is on another commit."""


def git_blob(data: bytes) -> str:
    """Return git's id of a file with this content."""
    return sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
