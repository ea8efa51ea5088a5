"""The adapter that a training starts from, and what it fixes. No torch is imported."""

from __future__ import annotations

from collections.abc import Callable, Collection

from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.format.manifest import Manifest
from onetrunk.adapters.store.store import StoredVersion
from onetrunk.cli.sharing import located
from onetrunk.core.errors import UsageError
from onetrunk.core.plugin_system.host import PluginHost

INHERITED = ("method", "pooling", "rank", "alpha", "targets", "layers")
"""Settings that an adapter to start from brings along."""

Parent = tuple[StoredVersion, Manifest]


def parent_of(
    host: Callable[[], PluginHost], ref: str, task: str, given: Collection[str], backbone: str | None
) -> Parent:
    """Return the adapter `ref` to start a training of `task` from; given: the settings that the user chose.

    host: returns the plugins, which a pull needs; backbone: the one that the user chose. Raises UnknownAdapter, and
    UsageError where the adapter does not fit what was asked for.
    """
    stored = located(host, ref, backbone)
    manifest = read_manifest(stored.path)
    if manifest.task != task:
        raise UsageError(
            f"{stored.ref} is an adapter for {manifest.task}, not for {task}; start from another one"
        )
    for name in INHERITED:
        if name in given:
            raise UsageError(
                f"--{name} is as {stored.ref} has it; leave the option out, or train without --from"
            )
    return stored, manifest
