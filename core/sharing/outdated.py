"""Versions that were pulled, and what their remotes have by now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onetrunk.adapters.errors import RemoteError
from onetrunk.adapters.remotes.locations import Location
from onetrunk.adapters.remotes.remote import open_remote
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.adapters.store.version_index import Origin


@dataclass(frozen=True, slots=True)
class Followed:
    """The newest pulled version of a name.

    newest: the commit of its branch or tag now; fault: why that is not known.
    """

    stored: StoredVersion
    origin: Origin
    newest: str | None
    fault: str | None = None

    @property
    def is_outdated(self) -> bool:
        """Whether the remote has another commit by now."""
        return self.newest not in (None, self.origin.commit)

    @property
    def location(self) -> Location:
        """What to pull to be up to date."""
        place = Location.parse(self.origin.place)
        return Location(place.kind, place.place, self.origin.follows)


def followed(store: Store, names: Iterable[str], token: str | None = None) -> list[Followed]:
    """Return what became of the remotes of `names` (those that were not pulled are left out)."""
    found = []
    for name in names:
        pulled = [own for own in store.versions(name) if own.origin is not None]
        if pulled and (origin := pulled[-1].origin) is not None:
            found.append(_asked(pulled[-1], origin, token))
    return found


def _asked(stored: StoredVersion, origin: Origin, token: str | None) -> Followed:
    place = Location.parse(origin.place)
    try:
        commit = open_remote(place, token).commit(origin.follows)
    except RemoteError as error:
        return Followed(stored, origin, None, str(error))
    return Followed(stored, origin, commit.id)
