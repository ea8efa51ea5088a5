"""Discovery of plugins: entry points of installed distributions, or objects that a program passes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from onetrunk.core.errors import PluginError
from onetrunk.core.tasks.hookspecs import ENTRY_POINT_GROUP, PROJECT

_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PluginSource:
    """A plugin before it is loaded.

    name: of its entry point, or of its module or class if a program passes it.
    distribution, version: of the distribution that installed it.
    location: of its entry point, module or distribution, for error messages.
    load: imports and returns the module or object; can raise any exception.
    """

    name: str
    distribution: str
    version: str
    location: str
    load: Callable[[], object]

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


def installed() -> list[PluginSource]:
    """Return all installed plugins: those of OneTrunk first, then the others by the name of their distribution.

    If `sys.path` has a distribution twice (an editable install in its own folder), only the first one counts. It is
    also the one that imports use.
    """
    found: dict[str, list[PluginSource]] = {}
    for distribution in metadata.distributions():
        if sources := _plugins_of(distribution):
            name = re.sub(r"[-_.]+", "-", sources[0].distribution).lower()  # normalized as in PEP 503
            found.setdefault(name, sources)
    order = sorted(found, key=lambda name: (name != PROJECT, name))
    return [source for name in order for source in found[name]]


def source_of(plugin: object) -> PluginSource:
    """Return the source of a loaded module or object; its version is `__version__`, or `unknown`."""
    name = str(getattr(plugin, "__name__", type(plugin).__qualname__))
    module = str(getattr(plugin, "__module__", name))
    version = str(getattr(plugin, "__version__", _UNKNOWN))
    return PluginSource(name, module.partition(".")[0], version, f"in {module}", lambda: plugin)


def _plugins_of(distribution: metadata.Distribution) -> list[PluginSource]:
    """Return the plugins of `distribution`; one that fails to load if the metadata cannot be read."""
    try:
        # Parsing the metadata of every distribution would take longer than everything else.
        if ENTRY_POINT_GROUP not in (distribution.read_text("entry_points.txt") or ""):
            return []
        fields = distribution.metadata
        name, version = fields["Name"], fields["Version"] or _UNKNOWN
        if not name:
            raise ValueError("METADATA has no Name")
        points = distribution.entry_points.select(group=ENTRY_POINT_GROUP)
        return [
            PluginSource(point.name, name, version, f"entry point {point.name} = {point.value}", point.load)
            for point in sorted(points, key=lambda point: point.name)
        ]
    except Exception as error:  # metadata can be faulty in any way
        fault = PluginError(f"METADATA or entry_points.txt cannot be read: {type(error).__name__}: {error}")

    def load() -> object:
        raise fault

    folder = str(distribution.locate_file(""))
    return [PluginSource("entry_points.txt", f"in {folder}", _UNKNOWN, folder, load)]
