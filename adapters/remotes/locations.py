"""Locations of published adapters: `org/repo@rev` or `org/repo/folder@rev` on the Hugging Face Hub, or
`file:///path@rev`, a folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from onetrunk.adapters.errors import ReferenceSyntaxError

_EXPECTED = "expected ORG/REPO, ORG/REPO/FOLDER, ORG/REPO@REVISION or file:///FOLDER"

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,95}(/[A-Za-z0-9_][A-Za-z0-9._ -]{0,95}){0,7}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Location:
    """Where one adapter is published.

    place: `org/repo` on the Hub, or the absolute path of the folder.
    revision: branch, tag or commit; None for the newest commit of `main`.
    folder: path of the folder in the repo that has the adapter; empty for the repo itself, and for a folder.
    """

    kind: Literal["hub", "folder"]
    place: str
    revision: str | None = None
    folder: str = ""

    def __str__(self) -> str:
        """Return the text that `parse` reads back to an equal location."""
        return self.base if self.revision is None else f"{self.base}@{self.revision}"

    @classmethod
    def parse(cls, text: str) -> Location:
        """Read `org/repo`, `org/repo/ner@v3` or `file:///mnt/models/ner@v3`. Raises ReferenceSyntaxError."""
        before, at, after = text.rpartition("@")
        place, revision = (before, after) if at else (text, None)
        if revision is not None and not is_revision(revision):
            raise ReferenceSyntaxError(text, f"{revision!r} is not a valid branch, tag or commit", _EXPECTED)
        if text.startswith("file://"):
            return cls("folder", _folder(text, place), revision)
        org, _, rest = place.partition("/")
        repo, slash, folder = rest.partition("/")
        repo = f"{org}/{repo}"
        if not _REPO.fullmatch(repo) or ".." in repo or "--" in repo or repo.endswith((".git", ".", "-")):
            raise ReferenceSyntaxError(text, f"{repo!r} is not a valid repo id of the Hub", _EXPECTED)
        if slash and not _FOLDER.fullmatch(folder):
            raise ReferenceSyntaxError(text, f"{folder!r} is not a valid folder of a repo", _EXPECTED)
        return cls("hub", repo, revision, folder)

    @property
    def base(self) -> str:
        """The location without its revision: `org/repo`, `org/repo/folder` or `file:///path`."""
        if self.kind == "folder":
            return Path(self.place).as_uri()
        return f"{self.place}/{self.folder}" if self.folder else self.place

    @property
    def name(self) -> str:
        """The default name of an adapter that is pulled from here: the repo or folder without its parents."""
        return (self.folder or self.place).rstrip("/").rpartition("/")[2].lower().replace(" ", "-")


def is_location(text: str) -> bool:
    """Tell whether `text` is a location, which has a slash, and not a reference to the store, which has none."""
    return "/" in text


def is_commit(revision: str | None) -> bool:
    """Tell whether `revision` is a full commit id, which always means the same content."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def is_revision(text: str) -> bool:
    """Tell whether `text` can be the name of a branch, a tag or a commit."""
    forbidden = ".." in text or "//" in text or text.endswith("/")
    return _REVISION.fullmatch(text) is not None and not forbidden


def _folder(text: str, url: str) -> str:
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not path.startswith("/"):
        raise ReferenceSyntaxError(text, "the path of a folder must be absolute", "expected file:///FOLDER")
    if "\0" in path or path.strip("/") == "":
        raise ReferenceSyntaxError(text, "the path is not that of a folder", "expected file:///FOLDER")
    return str(Path(path))
