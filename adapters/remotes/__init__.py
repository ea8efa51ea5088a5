"""Remotes, which adapters are published to and pulled from: the Hugging Face Hub and shared folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onetrunk.adapters.remotes.locations import Location
    from onetrunk.adapters.remotes.remote import Remote


def open_remote(location: Location, token: str | None = None) -> Remote:
    """Return the remote at `location`. Nothing is sent to it yet.

    token: Hub token; None for `HF_TOKEN` or the token of `hf auth login`.
    """
    if location.kind == "folder":
        from onetrunk.adapters.remotes.folder import FolderRemote

        return FolderRemote(location)
    from onetrunk.adapters.remotes.hub import HubRemote

    return HubRemote(location, token)
