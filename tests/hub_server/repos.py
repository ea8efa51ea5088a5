"""A repo of the Hub in memory: files by commit, refs, large objects."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property

LARGE = 10 * 2**20
_LARGE_KINDS = (
    "bin",
    "ckpt",
    "gz",
    "h5",
    "npy",
    "npz",
    "onnx",
    "pkl",
    "pt",
    "pth",
    "safetensors",
    "tar",
    "zip",
)
_ATTRIBUTES = "".join(f"*.{kind} filter=lfs diff=lfs merge=lfs -text\n" for kind in _LARGE_KINDS).encode()


def blob_id(data: bytes) -> str:
    """The sha1 that git gives a file of these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass(frozen=True)
class File:
    """A file of a commit. lfs: git holds a pointer to it only."""

    data: bytes
    lfs: bool = False

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        """What git holds of an LFS file."""
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n"
        ).encode()

    @cached_property
    def blob_id(self) -> str:
        return blob_id(self.pointer if self.lfs else self.data)

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob_id


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit with all its files. date: as the Hub writes it, later than that of every commit before."""

    oid: str
    parent: str | None
    title: str
    description: str
    author: str
    date: str
    files: Mapping[str, File]


class Repo:
    """A model repo. It begins with a commit of .gitattributes.

    refs: full name (`refs/heads/main`, `refs/tags/v1`, `refs/pr/1`) → commit.
    objects: the LFS files that were uploaded, by sha256, committed or not.
    """

    def __init__(self, id: str, private: bool, clock: Callable[[], str]) -> None:
        self.id, self.private = id, private
        self.refs: dict[str, str] = {}
        self.objects: dict[str, bytes] = {}
        self.messages: dict[str, str] = {}
        self._commits: dict[str, Commit] = {}
        self._clock = clock
        self.record({".gitattributes": File(_ATTRIBUTES)}, title="initial commit")
        self.created = self.at().date

    @property
    def namespace(self) -> str:
        return self.id.split("/")[0]

    @property
    def branches(self) -> dict[str, str]:
        """Name → commit."""
        return self._refs("refs/heads/")

    @property
    def tags(self) -> dict[str, str]:
        """Name → commit."""
        return self._refs("refs/tags/")

    @property
    def pulls(self) -> dict[int, str]:
        """Number of the PR → commit."""
        return {int(number): oid for number, oid in self._refs("refs/pr/").items()}

    def head(self, revision: str = "main") -> str:
        """The commit of a branch, tag, full ref or (beginning of a) commit. Raises KeyError."""
        for ref in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if ref in self.refs:
                return self.refs[ref]
        found = [oid for oid in self._commits if oid.startswith(revision)]
        if len(found) != 1 or not re.fullmatch("[0-9a-f]{7,40}", revision):
            raise KeyError(revision)
        return found[0]

    def at(self, revision: str = "main") -> Commit:
        """Raises KeyError."""
        return self._commits[self.head(revision)]

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Path → bytes, LFS files too. Raises KeyError."""
        return {path: file.data for path, file in self.at(revision).files.items()}

    def commits(self, revision: str = "main") -> list[Commit]:
        """The newest first. Raises KeyError."""
        found = [self.at(revision)]
        while found[-1].parent is not None:
            found.append(self._commits[found[-1].parent])
        return found

    def wants_lfs(self, path: str, size: int, sample: bytes, revision: str = "main") -> bool:
        """Whether a file goes to LFS: by .gitattributes, by size, or because it is not text."""
        lines = self.files(revision).get(".gitattributes", b"").decode().splitlines()
        patterns = [line.split()[0] for line in lines if "filter=lfs" in line]
        named = any(fnmatch(path.rsplit("/")[-1], pattern) or fnmatch(path, pattern) for pattern in patterns)
        return size > 0 and (named or size > LARGE or b"\0" in sample)

    def commit(
        self, changes: Mapping[str, bytes | None], title: str = "Edit on the Hub", revision: str = "main"
    ) -> str:
        """Commit as another author does it meanwhile; None deletes a file. The new commit."""
        files = {
            path: data if data is None else File(data, self.wants_lfs(path, len(data), data[:512], revision))
            for path, data in changes.items()
        }
        return self.record(files, title=title, ref=f"refs/heads/{revision}").oid

    def record(
        self,
        changes: Mapping[str, File | None],
        *,
        title: str,
        description: str = "",
        author: str = "hub",
        ref: str = "refs/heads/main",
        start: str | None = None,
    ) -> Commit:
        """Add a commit on the head of the ref, or at `start` of a new ref, and move the ref to it."""
        parent = start or self.refs.get(ref)
        files = dict(self._commits[parent].files) if parent else {}
        for path, file in changes.items():
            if file is None:
                del files[path]
            else:
                files[path] = file
                if file.lfs:
                    self.objects[file.sha256] = file.data
        date = self._clock()
        tree = [(path, file.blob_id) for path, file in sorted(files.items())]
        oid = hashlib.sha1(repr((parent, title, description, author, date, tree)).encode()).hexdigest()
        made = Commit(oid, parent, title, description, author, date, dict(sorted(files.items())))
        self._commits[oid] = made
        self.refs[ref] = oid
        return made

    def tag(self, name: str, revision: str = "main") -> None:
        """Set a tag, moving it if it is there. Raises KeyError if the revision is not."""
        self.refs[f"refs/tags/{name}"] = self.head(revision)

    def _refs(self, prefix: str) -> dict[str, str]:
        return {ref.removeprefix(prefix): oid for ref, oid in self.refs.items() if ref.startswith(prefix)}
