"""The adapter to continue training from. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Collection

from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.format.manifest import Manifest
from onetrunk.adapters.store.store import StoredVersion
from onetrunk.cli.sharing import resolve_version
from onetrunk.core.errors import UsageError
from onetrunk.core.plugin_system.host import PluginHost

INHERITED = ("method", "pooling", "rank", "alpha", "targets", "layers")
"""Settings that are taken from the adapter to continue from."""

Parent = tuple[StoredVersion, Manifest]


def parent_adapter(
    host: Callable[[], PluginHost], ref: str, task: str, given: Collection[str], backbone: str | None
) -> Parent:
    """Return the adapter `ref` to continue training from, with its manifest.

    host: returns the plugins, which a pull needs. given: names of the settings that the user set. backbone: the
    user's choice, None for the adapter's own. Raises UnknownAdapter; UsageError if the adapter has another task, or
    the user set one of `INHERITED`.
    """
    stored = resolve_version(host, ref, backbone)
    manifest = read_manifest(stored.path)
    if manifest.task != task:
        raise UsageError(
            f"{stored.ref} is an adapter for task {manifest.task}, not for {task}; choose another one for --from"
        )
    for name in INHERITED:
        if name in given:
            raise UsageError(
                f"--{name} cannot be combined with --from: the setting of {stored.ref} is kept; leave one out"
            )
    return stored, manifest
