"""What a place that shares adapters can do: the small interface that the Hub and shared folders have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path
from typing import Protocol

from onetrunk.adapters.format.files import sha256
from onetrunk.adapters.remotes.locations import Location

MAIN = "main"
"""The branch that is meant where none is named."""

OnBytes = Callable[[int], None]
"""Hears of bytes as they come."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a commit. size: bytes; sha256, blob (git's sha1 of it): where the remote knows them, else None."""

    name: str
    size: int
    sha256: str | None = None
    blob: str | None = None

    def matches(self, data: bytes) -> bool:
        """Tell whether `data` is what the remote says that the file is."""
        return (
            len(data) == self.size
            and self.sha256 in (None, sha256(data))
            and self.blob in (None, git_blob(data))
        )


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of a remote, with its files by name."""

    id: str
    files: Mapping[str, RemoteFile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Published:
    """What a push has made. commit: its id; url: where people look at it; pull_request: its URL, if it is one."""

    commit: str
    url: str
    pull_request: str | None = None


class Remote(Protocol):
    """A place that holds one adapter in commits on branches, with tags. Every method may raise RemoteError."""

    location: Location

    @property
    def endpoint(self) -> str | None:
        """URL of the Hub that answers; None for a folder."""

    def commit(self, revision: str | None) -> Commit:
        """Return the commit that a branch, a tag or an id names now. Raises RemoteNotFound."""

    def fetch(self, commit: Commit, name: str, limit: int, advance: OnBytes) -> bytes:
        """Return the content of a file; nothing of it is trusted. Raises RemoteError beyond `limit` bytes."""

    def create(self, private: bool) -> bool:
        """Make the place if there is none; return whether there was none."""

    def publish(
        self, files: Mapping[str, Path], *, branch: str, parent: str | None, message: str, pull_request: bool
    ) -> Published:
        """Make one commit on `branch`, whose head is `parent` (None: there is no such branch), of just `files`.

        Files of the remote's own, which begin with a dot, stay.
        Raises RemoteConflict, and nothing has changed, if the head is another one by now.
        """

    def tag(self, name: str, commit: str) -> None:
        """Name `commit`. Raises RemoteConflict for a name that another commit has."""


def git_blob(data: bytes) -> str:
    """Return the id that git gives to a file of this content."""
    return sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
