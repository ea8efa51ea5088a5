"""The state of a gateway: the name table, the health of the replicas, and statistics of its own requests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields

from onetrunk.adapters.methods.bank import Tier, Usage
from onetrunk.core.serving.cluster.messages import ReplicaHealth
from onetrunk.core.serving.cluster.name_table import NameEntry, NameTable
from onetrunk.core.serving.engine.backend import BackendInfo
from onetrunk.core.serving.engine.errors import UnknownName
from onetrunk.core.serving.engine.events import EventSink
from onetrunk.core.serving.engine.stats import RequestStatistics
from onetrunk.core.serving.engine.status import AdapterStatus, EngineStatus

_TIERS: tuple[Tier, ...] = ("device", "host", "disk")


class GatewayState:
    """The newest name table and health reports that a gateway has received.

    events: receives the events of the gateway's own requests.
    """

    def __init__(self, events: EventSink) -> None:
        self.events = events
        self.table = NameTable("", "")
        self.reports: Mapping[str, ReplicaHealth] = {}
        self.statistics = RequestStatistics(events)
        self._started = time.monotonic()

    def update(self, table: NameTable) -> None:
        """Replace the table, unless the new one is an older revision of the same epoch."""
        if table.epoch != self.table.epoch or table.revision > self.table.revision:
            self.table = table
            self.statistics.keep_only(table.entries)

    @property
    def info(self) -> BackendInfo:
        """Backbone, device and precision of the first replica; empty without replicas."""
        return next((each.info for each in self.reports.values()), BackendInfo("", "", ""))

    @property
    def usage(self) -> Usage:
        """Memory and transfers of the adapter banks of all replicas, summed."""
        each = [report.usage for report in self.reports.values()]
        return Usage(*(sum(getattr(own, field.name) for own in each) for field in fields(Usage)))

    def versions(self) -> dict[str, str]:
        """Return the version in service for each served name."""
        return {name: entry.version for name, entry in self.table.entries.items()}

    def adapters(self) -> list[AdapterStatus]:
        """Return the status of each served adapter, sorted by name."""
        tiers = self._tiers()
        return [self._status_of(name, entry, tiers) for name, entry in sorted(self.table.entries.items())]

    def adapter(self, name: str) -> AdapterStatus:
        """Return the status of the adapter that serves as `name`. Raises UnknownName."""
        entries = self.table.entries
        if name not in entries:
            raise UnknownName(name, sorted(entries))
        return self._status_of(name, entries[name], self._tiers())

    def status(self) -> EngineStatus:
        """Return the summed queues; the state is `ready` if one replica is ready, `broken` without replicas."""
        each = [report.status for report in self.reports.values()]
        states = [own.state for own in each] or ["broken"]
        return EngineStatus(
            state="ready" if "ready" in states else states[0],
            waiting_texts=sum(own.waiting_texts for own in each),
            waiting_tokens=sum(own.waiting_tokens for own in each),
            limit_tokens=sum(own.limit_tokens for own in each),
            wait_p95=max((own.wait_p95 for own in each if own.wait_p95 is not None), default=None),
            requests_per_second=self.statistics.requests.rate(),
            adapters=len(self.table.entries),
            uptime=time.monotonic() - self._started,
        )

    def _tiers(self) -> dict[str, Tier]:
        """Return the fastest tier in which any replica has each version, by key."""
        tiers: dict[str, Tier] = {}
        for report in self.reports.values():
            for key, tier in report.tiers.items():
                tiers[key] = min(tier, tiers.get(key, "disk"), key=_TIERS.index)
        return tiers

    def _status_of(self, name: str, entry: NameEntry, tiers: Mapping[str, Tier]) -> AdapterStatus:
        window = self.statistics.of_name(name)
        return AdapterStatus(
            name=name,
            version=entry.version,
            reference=entry.reference,
            task=entry.task,
            labels=entry.labels,
            tier=tiers.get(entry.key, "disk"),
            since=entry.since,
            requests=window.total,
            requests_per_second=window.rate(),
            p95=window.p95(),
        )
