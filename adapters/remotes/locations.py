"""Locations of shared adapters: `org/repo@rev` on the Hugging Face Hub, or a folder, `file:///path@rev`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from onetrunk.adapters.errors import ReferenceSyntaxError

SCHEME = "file://"
EXPECTED = "expected ORG/REPO, ORG/REPO@REVISION or file:///FOLDER"

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Location:
    """The place of one shared adapter.

    kind: `hub` or `folder`.
    place: `org/repo`, or the path of the folder.
    revision: branch, tag or commit; None for the newest commit of `main`.
    """

    kind: Literal["hub", "folder"]
    place: str
    revision: str | None = None

    def __str__(self) -> str:
        """Return the text that `parse` reads back to an equal location."""
        return self.base if self.revision is None else f"{self.base}@{self.revision}"

    @classmethod
    def parse(cls, text: str) -> Location:
        """Read `org/repo`, `org/repo@v3` or `file:///mnt/models/ner@v3`. Raises ReferenceSyntaxError."""
        if text.startswith(SCHEME):
            path, revision = _cut(text, text)
            return cls("folder", _folder(text, path), revision)
        place, revision = _cut(text, text)
        if not _REPO.fullmatch(place) or ".." in place or "--" in place or place.endswith((".git", ".", "-")):
            raise ReferenceSyntaxError(text, f"{place!r} is not a valid repo id of the Hub", EXPECTED)
        return cls("hub", place, revision)

    @property
    def base(self) -> str:
        """The location without its revision: `org/repo` or `file:///path`."""
        return self.place if self.kind == "hub" else Path(self.place).as_uri()

    @property
    def name(self) -> str:
        """The default name of an adapter from here: the last part of the place."""
        return self.place.rstrip("/").rpartition("/")[2].lower().replace(" ", "-")


def is_location(text: str) -> bool:
    """Tell whether `text` is a location and not a reference to the store: references have no slash."""
    return "/" in text


def is_commit(revision: str | None) -> bool:
    """Tell whether `revision` is a full commit id, which always means the same content."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def is_revision(text: str) -> bool:
    """Tell whether `text` can be the name of a branch, a tag or a commit."""
    return (
        _REVISION.fullmatch(text) is not None
        and ".." not in text
        and "//" not in text
        and not text.endswith("/")
    )


def _checked(text: str, revision: str) -> str:
    if not is_revision(revision):
        raise ReferenceSyntaxError(text, f"{revision!r} is not a valid branch, tag or commit", EXPECTED)
    return revision


def _cut(text: str, whole: str) -> tuple[str, str | None]:
    place, at, revision = text.rpartition("@")
    return (place, _checked(whole, revision)) if at else (text, None)


def _folder(text: str, url: str) -> str:
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not path.startswith("/"):
        raise ReferenceSyntaxError(text, "the path of a folder must be absolute", "expected file:///FOLDER")
    if "\0" in path or path.strip("/") == "":
        raise ReferenceSyntaxError(text, "the path is not that of a folder", "expected file:///FOLDER")
    return str(Path(path))
