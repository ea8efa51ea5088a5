"""Which version serves under which name, as all of a cluster know it. No torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from onetrunk.core.tasks import Labels


@dataclass(frozen=True, slots=True)
class NameEntry:
    """What serves under a name.

    key: by which replicas know the version; it has the artifact's id, as a number may mean another artifact in
    another store. reference: what was asked for. since: when it was put in service.
    """

    key: str
    version: str
    reference: str
    task: str
    labels: Labels
    since: datetime


@dataclass(frozen=True, slots=True)
class NameTable:
    """All names at one moment.

    origin: the settings that the cluster was started with. epoch: the life of the process that keeps the table;
    revision: the changes since then.
    """

    origin: str
    epoch: str
    revision: int = 0
    entries: Mapping[str, NameEntry] = field(default_factory=dict)

    @property
    def mark(self) -> tuple[str, int]:
        """What tells one state of the table from all others."""
        return self.epoch, self.revision

    def changed(self, name: str, entry: NameEntry | None) -> NameTable:
        """Return the table with `entry` under a name, or without the name."""
        entries = {**self.entries}
        if entry is None:
            del entries[name]
        else:
            entries[name] = entry
        return replace(self, revision=self.revision + 1, entries=entries)

    def outlives(self, other: NameTable) -> bool:
        """Tell whether `other` is what a keeper knows that has been started again, and has lost this table."""
        return self.epoch != other.epoch and self.origin == other.origin and self.revision >= other.revision


@dataclass(frozen=True, slots=True)
class TableUpdate:
    """What a gateway is told. table: None where it has the newest; reports: of each replica, as bytes."""

    table: NameTable | None
    reports: Mapping[str, bytes]
