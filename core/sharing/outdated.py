"""Versions that were pulled, and what their remotes have by now."""

from __future__ import annotations

from dataclasses import dataclass

from onetrunk.adapters.errors import RemoteError
from onetrunk.adapters.remotes.locations import Location
from onetrunk.adapters.remotes.opening import open_remote
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.adapters.store.version_index import Origin


@dataclass(frozen=True, slots=True)
class TrackedAdapter:
    """The newest pulled version of a name.

    newest: the commit of its branch or tag now; fault: why that is not known. later: the newest version of the
    name, where that was trained here.
    """

    stored: StoredVersion
    origin: Origin
    newest: str | None
    fault: str | None = None
    later: StoredVersion | None = None

    @property
    def is_outdated(self) -> bool:
        """Whether the remote has another commit by now."""
        return self.newest not in (None, self.origin.commit)

    @property
    def location(self) -> Location:
        """What to pull to be up to date."""
        place = Location.parse(self.origin.place)
        return Location(place.kind, place.place, self.origin.follows)


def tracked_adapters(store: Store, name: str | None, token: str | None = None) -> list[TrackedAdapter]:
    """Return what the remotes of the pulled adapters have now; of one `name`, or of all.

    All are those that were pulled under a name: what is used by its location is looked up at each use. Raises
    UnknownAdapter.
    """
    if name is not None:
        store.resolve(name)  # raises, and names what is near
    found = []
    for each in store.names() if name is None else [name]:
        versions = store.versions(each)
        pulled = [(own, own.origin) for own in versions if own.origin is not None]
        if pulled and not (name is None and versions[-1].is_cached):
            stored, origin = pulled[-1]
            later = versions[-1] if versions[-1] != stored else None
            found.append(_compare(stored, origin, later, token))
    return found


def _compare(
    stored: StoredVersion, origin: Origin, later: StoredVersion | None, token: str | None
) -> TrackedAdapter:
    """Return what the remote of `stored` has now."""
    remote = open_remote(Location.parse(origin.place), token)
    if origin.endpoint not in (None, remote.endpoint):
        fault = f"it was pulled from {origin.endpoint}, and HF_ENDPOINT is {remote.endpoint} now"
        return TrackedAdapter(stored, origin, None, fault, later)
    try:
        commit = remote.commit(origin.follows)
    except RemoteError as error:
        return TrackedAdapter(stored, origin, None, str(error), later)
    return TrackedAdapter(stored, origin, commit.id, later=later)
