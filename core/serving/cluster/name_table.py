"""The name table: which version serves under which name in the whole cluster. No torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from onetrunk.core.tasks import Labels


@dataclass(frozen=True, slots=True)
class NameEntry:
    """What serves under a name.

    key: identifies the version on every replica: `ner@3#` and the id of the artifact, because the same version
        number may be another adapter in another store.
    reference: what was requested, such as `ner@prod`.
    since: when it began to serve.
    """

    key: str
    version: str
    reference: str
    task: str
    labels: Labels
    since: datetime


@dataclass(frozen=True, slots=True)
class NameTable:
    """All served names at one moment.

    origin: hash of the settings of the cluster.
    epoch: id of the name service process that made the table.
    revision: number of changes in this epoch.
    """

    origin: str
    epoch: str
    revision: int = 0
    entries: Mapping[str, NameEntry] = field(default_factory=dict)

    @property
    def mark(self) -> tuple[str, int]:
        """Return epoch and revision, which identify one state of the table."""
        return self.epoch, self.revision

    def with_entry(self, name: str, entry: NameEntry) -> NameTable:
        """Return the next revision, in which `entry` serves as `name`."""
        return replace(self, revision=self.revision + 1, entries={**self.entries, name: entry})

    def without(self, name: str) -> NameTable:
        """Return the next revision, without `name`."""
        entries = {other: entry for other, entry in self.entries.items() if other != name}
        return replace(self, revision=self.revision + 1, entries=entries)

    def outlives(self, other: NameTable) -> bool:
        """Return whether `other` comes from a restarted name service that has lost this table."""
        return self.epoch != other.epoch and self.origin == other.origin and self.revision >= other.revision


@dataclass(frozen=True, slots=True)
class TableUpdate:
    """What the name service sends to a gateway.

    table: None if the gateway has the newest one.
    reports: pickled `ReplicaHealth` of each replica, by its id. The name service does not unpickle them, as that
        would import torch.
    """

    table: NameTable | None
    reports: Mapping[str, bytes]
