"""Finds the pulled versions whose remotes have newer commits."""

from __future__ import annotations

from dataclasses import dataclass, replace

from onetrunk.adapters.errors import RemoteError
from onetrunk.adapters.remotes import open_remote
from onetrunk.adapters.remotes.locations import Location
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.adapters.store.version_index import Origin


@dataclass(frozen=True, slots=True)
class TrackedAdapter:
    """The newest pulled version of a name, compared with its remote.

    newest: the current commit of the branch or tag that `stored` was pulled from; None if the remote failed.
    fault: why the remote failed; None if it did not fail.
    later: a newer version of the name that was trained or imported here; None if there is none.
    """

    stored: StoredVersion
    origin: Origin
    newest: str | None
    fault: str | None = None
    later: StoredVersion | None = None

    @property
    def is_outdated(self) -> bool:
        """Whether the remote now has another commit."""
        return self.newest not in (None, self.origin.commit)

    @property
    def location(self) -> Location:
        """The location from which the newest commit can be pulled."""
        return replace(Location.parse(self.origin.place), revision=self.origin.follows)


def tracked_adapters(store: Store, name: str | None, token: str | None = None) -> list[TrackedAdapter]:
    """Return the newest pulled version of `name`, or of each name in the store, compared with its remote.

    name: None for all names. Adapters that are used by their location are then left out, because each use looks for
        the newest commit.
    token: Hub token; None for the token of the environment.

    Raises UnknownAdapter for an unknown `name`. A failed remote does not raise: `fault` has the reason.
    """
    if name is not None and not store.versions(name):
        store.resolve(name)  # raises UnknownAdapter, which suggests similar names
    found = []
    for each in store.names() if name is None else [name]:
        versions = store.versions(each)
        pulled = [(own, own.origin) for own in versions if own.origin is not None]
        if pulled and not (name is None and versions[-1].is_cached):
            stored, origin = pulled[-1]
            later = versions[-1] if versions[-1] != stored else None
            newest, fault = _newest_commit(origin, token)
            found.append(TrackedAdapter(stored, origin, newest, fault, later))
    return found


def _newest_commit(origin: Origin, token: str | None) -> tuple[str | None, str | None]:
    """Return the current commit of the branch or tag of `origin`, or None and the reason why it is not known."""
    remote = open_remote(Location.parse(origin.place), token)
    if origin.endpoint not in (None, remote.endpoint):
        return None, f"it was pulled from {origin.endpoint}, but HF_ENDPOINT is now {remote.endpoint}"
    try:
        return remote.commit(origin.follows).id, None
    except RemoteError as error:
        return None, str(error)
