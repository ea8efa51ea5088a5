"""The root of the error tree, and the faults of artifacts, references and the store.

OneTrunkError                every expected failure; the command line prints one line for it
├── ReferenceSyntaxError     a reference that cannot be read
├── StoreError
│   ├── UnknownAdapter       the store has no such name, version or alias
│   ├── NameTaken            the name belongs to an adapter of another origin or task
│   └── StoreBusy            another process holds the lock for too long
├── ArtifactError            a folder that is not a sound artifact
│   └── HashMismatch         a file is not what `task.json` says
├── RemoteError              a Hub or shared folder that cannot do what was asked
│   ├── RemoteNotFound       no such repo, revision or file there, or none that this token may see
│   ├── RemoteConflict       somebody else has published meanwhile
│   ├── RemoteDamaged        a file there is not what was published
│   └── RemoteUnreachable    the connection failed, or offline mode is on
├── PublishError             an adapter that must not be published as it is
└── (continued in `onetrunk.core.errors`)

Errors carry what they are about as attributes, so that a program need not read the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class OneTrunkError(Exception):
    """An expected failure: the message says what, where, what was expected and what to do."""

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as what it is, whatever its constructor takes: it may have to be told in another process."""
        return _restored, (type(self), self.args), self.__dict__


class ReferenceSyntaxError(OneTrunkError):
    """`text` is not a reference such as `ner`, `ner@3`, `ner@prod` or `org/ner@v3`."""

    def __init__(
        self, text: str, why: str, expected: str = "expected NAME, NAME@VERSION or NAME@ALIAS"
    ) -> None:
        super().__init__(f"{text!r} is not a reference: {why}; {expected}")
        self.text = text


class StoreError(OneTrunkError):
    """The store cannot do what was asked."""


class UnknownAdapter(StoreError):
    """No adapter answers to `reference`; `known` lists what would."""

    def __init__(self, reference: str, known: Sequence[str], where: Path) -> None:
        offer = f"known: {', '.join(known)}" if known else "it is empty; `adapters train` fills it"
        super().__init__(f"no adapter {reference!r} in the store {where}; {offer}")
        self.reference = reference
        self.known = tuple(known)


class NameTaken(StoreError):
    """`name` belongs to an adapter of another origin or another task; nothing was stored."""

    def __init__(self, name: str, why: str, location: str) -> None:
        super().__init__(
            f"the name {name!r} is taken: {why}; {location} was not stored. `adapters pull {location} --as NAME` "
            f"stores it under another name, `--into {name}` as the next version of {name} all the same"
        )
        self.name = name


class StoreBusy(StoreError):
    """Another process has held the store's lock for `seconds`."""

    def __init__(self, where: Path, seconds: float) -> None:
        super().__init__(f"the store {where} is locked by another process for over {seconds:g} s; try again")
        self.where = where


class ArtifactError(OneTrunkError):
    """What is in `where`, a folder or the name of a remote, is not a sound artifact."""

    def __init__(self, where: Path | str, message: str) -> None:
        super().__init__(f"{where}: {message}")
        self.where = where
        self.message = message


class HashMismatch(ArtifactError):
    """`file` does not have the sha256 that `task.json` records."""

    def __init__(self, where: Path, file: str, expected: str, found: str) -> None:
        super().__init__(
            where, f"{file} has sha256 {found[:16]}…, task.json says {expected[:16]}…; the file was changed"
        )
        self.file = file


class RemoteError(OneTrunkError):
    """The Hub or shared folder `place` cannot do what was asked."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(f"{place}: {message}")
        self.place = place


class RemoteNotFound(RemoteError):
    """There is no such repo, revision or file, or none that may be seen with this token."""


class RemoteConflict(RemoteError):
    """The branch has moved since it was read; nothing was changed."""


class RemoteDamaged(RemoteError):
    """A file is not what was published."""


class RemoteUnreachable(RemoteError):
    """The connection failed, also when tried again, or offline mode is on.

    wait: seconds that the remote asks for before the next try. final: whether it was tried for long already.
    """

    wait = 0.0
    final = False


class PublishError(OneTrunkError):
    """An adapter that must not be published as it is; nothing was changed."""


def first_few(names: Sequence[str], most: int = 3) -> str:
    """Return the first `most` names with commas between, and how many more there are: `a, b, c and 4 more`."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _restored(kind: type[OneTrunkError], args: tuple[object, ...]) -> OneTrunkError:
    return kind.__new__(kind, *args)
