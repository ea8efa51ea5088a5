"""Records that gateways, replicas and the name service send to each other. No torch is imported.

A gateway is a process that accepts HTTP requests. A replica is a process with an engine that answers them. The name
service is the process that stores which version is served under which name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from onetrunk.core.tasks import Labels

if TYPE_CHECKING:
    from onetrunk.adapters.methods.bank import Tier, Usage
    from onetrunk.core.errors import OneTrunkError
    from onetrunk.core.serving.engine.requests import Result
    from onetrunk.core.serving.engine.status import BackendInfo, EngineStatus

Outcome: TypeAlias = "list[Result] | OneTrunkError"
"""The results of a request, or the error of the whole request. Errors are returned, because Ray would wrap a raised
error in a class of its own."""


@dataclass(frozen=True, slots=True)
class NameEntry:
    """What is served under a name.

    key: identifies the version on every replica: `ner@3#` and the id of the artifact. In the store of another
        machine, the same version number may be another adapter.
    reference: what was requested, such as `ner@prod`.
    since: when the version began to serve.
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
    entries: by served name.
    """

    origin: str
    epoch: str
    revision: int = 0
    entries: Mapping[str, NameEntry] = field(default_factory=dict)

    @property
    def mark(self) -> tuple[str, int]:
        """Epoch and revision, which identify one state of the table."""
        return self.epoch, self.revision

    def with_entry(self, name: str, entry: NameEntry) -> NameTable:
        """Return the next revision, in which `entry` is served as `name`."""
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
    reports: pickled `ReplicaHealth` of each replica, by the id of the replica. The name service does not unpickle
        them, because that would import torch.
    """

    table: NameTable | None
    reports: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class ReplicaHealth:
    """The health report of a replica. tiers: where the weights of each loaded version are, by `NameEntry.key`."""

    info: BackendInfo
    status: EngineStatus
    usage: Usage
    tiers: Mapping[str, Tier]
