"""Decides if a pull may use a name of the store. A name belongs to the origin and task of its newest version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onetrunk.adapters.errors import NameTaken
from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.remotes.locations import Location
from onetrunk.adapters.store.store import StoredVersion
from onetrunk.adapters.store.version_index import Origin


class AlreadyStored(Exception):
    """Another pull has stored the same commit in the meantime, as the version `stored`."""

    def __init__(self, stored: StoredVersion) -> None:
        super().__init__(stored.ref)
        self.stored = stored


@dataclass(slots=True)
class NameClaim:
    """The request of a pull to store a version under `name`.

    location: where the adapter is pulled from, for messages.
    origin: the origin of the new version; None for a folder without commits.
    task: the task of the adapter; None until `task.json` has been read.
    into: use the name even if it belongs to another origin or task.
    """

    name: str
    location: Location
    origin: Origin | None
    task: str | None = None
    into: bool = False

    def known(self, versions: Sequence[StoredVersion]) -> StoredVersion | None:
        """Return the newest of `versions` with the same commit and the same task; None if there is none."""
        for own in reversed(versions):
            if self.origin is None or own.origin is None or not own.origin.is_at(self.origin):
                continue
            same_task = self.task is None or read_manifest(own.path).task == self.task
            if own.origin.commit == self.origin.commit and same_task:
                return own
        return None

    def check(self, versions: Sequence[StoredVersion]) -> None:
        """Raise NameTaken if the newest version of the name has another origin or task.

        versions: all versions of the name.
        """
        if not versions or self.into:
            return
        newest = versions[-1]
        if newest.origin is None:
            raise self._taken(f"{newest.ref} was trained or imported here")
        if self.origin is None or not newest.origin.is_at(self.origin):
            place, endpoint = newest.origin.place, newest.origin.endpoint
            raise self._taken(f"{newest.ref} comes from {place}" + (f" of {endpoint}" if endpoint else ""))
        if self.task is not None and (own := read_manifest(newest.path).task) != self.task:
            raise self._taken(
                f"{newest.ref} is for the task {own}, but the adapter to pull is for {self.task}"
            )

    def enter(self, versions: Sequence[StoredVersion]) -> None:
        """Check the name again while the store is locked. Raises NameTaken or AlreadyStored."""
        if meanwhile := self.known(versions):
            raise AlreadyStored(meanwhile)
        self.check(versions)

    def _taken(self, why: str) -> NameTaken:
        return NameTaken(self.name, why, str(self.location))
