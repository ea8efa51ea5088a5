"""Make the remote for a location."""

from __future__ import annotations

from onetrunk.adapters.remotes.locations import Location
from onetrunk.adapters.remotes.remote import Remote


def open_remote(location: Location, token: str | None = None) -> Remote:
    """Return the remote at `location`. Nothing is sent to it yet.

    token: Hub token, used in place of the one of the environment.
    """
    if location.kind == "folder":
        from onetrunk.adapters.remotes.folder import FolderRemote

        return FolderRemote(location)
    from onetrunk.adapters.remotes.hub import HubRemote

    return HubRemote(location, token)
