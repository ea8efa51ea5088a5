"""Which pulled versions have newer commits at their remotes."""

from __future__ import annotations

from dataclasses import dataclass

from onetrunk.adapters.errors import RemoteError
from onetrunk.adapters.remotes import open_remote
from onetrunk.adapters.remotes.locations import Location
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.adapters.store.version_index import Origin


@dataclass(frozen=True, slots=True)
class TrackedAdapter:
    """The newest pulled version of a name, compared with its remote.

    stored: the version.
    origin: where it was pulled from.
    newest: commit of its branch or tag now; None if it is not known.
    fault: why `newest` is not known.
    later: a newer version of the name that was trained here; None without one.
    """

    stored: StoredVersion
    origin: Origin
    newest: str | None
    fault: str | None = None
    later: StoredVersion | None = None

    @property
    def is_outdated(self) -> bool:
        """Whether the remote has another commit now."""
        return self.newest not in (None, self.origin.commit)

    @property
    def location(self) -> Location:
        """The location to pull for the newest commit."""
        place = Location.parse(self.origin.place)
        return Location(place.kind, place.place, self.origin.follows)


def tracked_adapters(store: Store, name: str | None, token: str | None = None) -> list[TrackedAdapter]:
    """Return the newest pulled version of `name`, or of every name, compared with its remote.

    name: None for all names, except those of adapters that are used by their location: each use looks
        for the newest commit.
    token: Hub token; None for the one of the environment.

    Raises UnknownAdapter. A remote that fails is reported in `fault`.
    """
    if name is not None:
        store.resolve(name)  # raises UnknownAdapter with similar names
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
    """Compare `stored` with its remote."""
    remote = open_remote(Location.parse(origin.place), token)
    if origin.endpoint not in (None, remote.endpoint):
        fault = f"it was pulled from {origin.endpoint}, and HF_ENDPOINT is {remote.endpoint} now"
        return TrackedAdapter(stored, origin, None, fault, later)
    try:
        commit = remote.commit(origin.follows)
    except RemoteError as error:
        return TrackedAdapter(stored, origin, None, str(error), later)
    return TrackedAdapter(stored, origin, commit.id, later=later)
