"""Which name in the store a pull may use: a name belongs to the origin and the task of its newest version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onetrunk.adapters.errors import NameTaken
from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.remotes.locations import Location
from onetrunk.adapters.store.store import StoredVersion
from onetrunk.adapters.store.version_index import Origin


class AlreadyStored(Exception):
    """Another pull has stored the same commit, as the version `stored`."""

    def __init__(self, stored: StoredVersion) -> None:
        super().__init__(stored.ref)
        self.stored = stored


@dataclass(slots=True)
class NameClaim:
    """The request of a pull to store a version under `name`.

    location: where the adapter is pulled from.
    origin: the same as a record of the store; None for a plain folder, which has no commits.
    task: task of the adapter; None until it is known.
    into: use the name even if it belongs to another origin or task.
    """

    name: str
    location: Location
    origin: Origin | None
    task: str | None = None
    into: bool = False

    def known(self, versions: Sequence[StoredVersion]) -> StoredVersion | None:
        """Return the newest of `versions` of the same commit and the same task; None without one."""
        return next((own for own in reversed(versions) if self._is_same(own)), None)

    def check(self, versions: Sequence[StoredVersion]) -> None:
        """Raise NameTaken if `versions`, all of the name, belong to another origin or task."""
        if not versions or self.into:
            return
        newest = versions[-1]
        if newest.origin is None:
            raise self._taken(f"{newest.ref} was trained or imported here")
        if self.origin is None or not newest.origin.is_at(self.origin):
            place, endpoint = newest.origin.place, newest.origin.endpoint
            raise self._taken(f"{newest.ref} comes from {place}" + (f" of {endpoint}" if endpoint else ""))
        if self.task is not None and (own := read_manifest(newest.path).task) != self.task:
            raise self._taken(f"{newest.ref} is for the task {own}, the adapter to pull is for {self.task}")

    def enter(self, versions: Sequence[StoredVersion]) -> None:
        """Check again under the store's lock. Raises NameTaken, and AlreadyStored if another pull was faster."""
        if meanwhile := self.known(versions):
            raise AlreadyStored(meanwhile)
        self.check(versions)

    def _is_same(self, own: StoredVersion) -> bool:
        if self.origin is None or own.origin is None or not own.origin.is_at(self.origin):
            return False
        same_task = self.task is None or read_manifest(own.path).task == self.task
        return own.origin.commit == self.origin.commit and same_task

    def _taken(self, why: str) -> NameTaken:
        return NameTaken(self.name, why, str(self.location))
