"""`OneTrunkError`, and the exceptions for references, artifacts, the store and remotes.

Exceptions carry their data as attributes, so a program does not have to parse messages. `onetrunk.core.errors` has
the exceptions of training and prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class OneTrunkError(Exception):
    """An expected failure. The message says what is wrong, where, what was expected and what to do."""

    def __reduce__(self) -> tuple[object, ...]:
        """Make every subclass picklable, whatever its constructor takes: errors are sent between processes."""
        return _restored, (type(self), self.args), self.__dict__


class ReferenceSyntaxError(OneTrunkError):
    """`text` is not a reference such as `ner`, `ner@3`, `ner@prod` or `org/ner@v3`."""

    def __init__(
        self, text: str, why: str, expected: str = "expected NAME, NAME@VERSION or NAME@ALIAS"
    ) -> None:
        super().__init__(f"{text!r} is not a reference: {why}; {expected}")
        self.text = text


class StoreError(OneTrunkError):
    """The local store of adapters cannot do what was requested."""


class UnknownAdapter(StoreError):
    """The store has no adapter for `reference`; `known` lists references that exist."""

    def __init__(self, reference: str, known: Sequence[str], where: Path) -> None:
        offer = f"known: {first_few(known, 20)}" if known else "it is empty; `adapters train` fills it"
        super().__init__(f"no adapter {reference!r} in the store {where}; {offer}")
        self.reference = reference
        self.known = tuple(known)


class NotPromoted(UnknownAdapter):
    """The name `reference` has versions, but none of them was promoted. known: references to the versions."""

    def __init__(self, reference: str, known: Sequence[str], where: Path) -> None:
        StoreError.__init__(
            self,
            f"{reference!r} has no current version in the store {where}; give a version, or run "
            f"`adapters promote {known[-1]}`; known: {', '.join(known)}",
        )
        self.reference = reference
        self.known = tuple(known)


class NameTaken(StoreError):
    """`name` belongs to an adapter of another origin or task. Nothing was stored."""

    def __init__(self, name: str, why: str, location: str) -> None:
        super().__init__(
            f"the name {name!r} is taken: {why}; {location} was not stored. `adapters pull {location} --as NAME` "
            f"stores it under another name, `--into {name}` as the next version of {name} anyway"
        )
        self.name = name


class StoreBusy(StoreError):
    """Another process holds the lock of the store `where`, and did not release it within `seconds`."""

    def __init__(self, where: Path, seconds: float) -> None:
        super().__init__(f"the store {where} is locked by another process for over {seconds:g} s; try again")
        self.where = where


class ArtifactError(OneTrunkError):
    """`where`, a folder or the location of a remote, does not hold a valid artifact (an adapter's files)."""

    def __init__(self, where: Path | str, message: str) -> None:
        super().__init__(f"{where}: {message}")
        self.where = where
        self.message = message


class HashMismatch(ArtifactError):
    """`file` has another sha256 than `task.json` records."""

    def __init__(self, where: Path, file: str, expected: str, found: str) -> None:
        super().__init__(
            where,
            f"{file} has sha256 {found[:16]}…, task.json says {expected[:16]}…: the file was changed; get the "
            "adapter again, or train it again",
        )
        self.file = file


class RemoteError(OneTrunkError):
    """The Hub or a shared folder cannot do what was requested. place: location of the repo or the folder."""

    def __init__(self, place: object, message: str) -> None:
        super().__init__(f"{place}: {message}")
        self.place = str(place)


class RemoteNotFound(RemoteError):
    """There is no such repo, revision or file, or the token may not see it."""


class RemoteConflict(RemoteError):
    """Another push has changed the branch, or the tag is on another commit. Nothing was changed."""


class RemoteDamaged(RemoteError):
    """A file differs from what was published."""


class RemoteUnreachable(RemoteError):
    """The connection failed after several attempts, or offline mode is on.

    wait: seconds that the remote asks to wait before the next attempt; 0 if it does not ask.
    final: whether another attempt is useless, because the Hub's client has already made several.
    """

    wait = 0.0
    final = False


class PublishError(OneTrunkError):
    """The adapter must not be published as it is. Nothing was changed."""


def first_few(names: Sequence[str], most: int = 3) -> str:
    """Return the first `most` names, and how many others there are: `a, b, c and 4 more`."""
    others = len(names) - most
    return ", ".join(names[:most]) + (f" and {others} more" if others > 0 else "")


def _restored(kind: type[OneTrunkError], args: tuple[object, ...]) -> OneTrunkError:
    return kind.__new__(kind, *args)
