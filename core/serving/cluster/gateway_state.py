"""What a gateway knows of its cluster: the table of names, and how replicas do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields

from onetrunk.adapters.methods.bank import Tier, Usage
from onetrunk.core.serving.cluster.messages import ReplicaHealth
from onetrunk.core.serving.cluster.name_table import NameEntry, NameTable
from onetrunk.core.serving.engine.backend import BackendInfo
from onetrunk.core.serving.engine.errors import UnknownName
from onetrunk.core.serving.engine.stats import SlidingWindow
from onetrunk.core.serving.engine.status import AdapterStatus, EngineStatus

_TIERS: tuple[Tier, ...] = ("device", "host", "disk")


class GatewayState:
    """The newest that a gateway has heard. Requests are counted by the gateway itself: those that it took."""

    def __init__(self) -> None:
        self.table = NameTable("", "")
        self.reports: Mapping[str, ReplicaHealth] = {}
        self._requests = SlidingWindow()
        self._of: dict[str, SlidingWindow] = {}
        self._began = time.monotonic()

    def take(self, table: NameTable) -> None:
        """Take a table, unless it is an older one."""
        if table.epoch != self.table.epoch or table.revision > self.table.revision:
            self.table = table
            for name in self._of.keys() - table.entries.keys():
                del self._of[name]

    def count(self, seconds: float) -> None:
        """Count a request."""
        self._requests.record(seconds)

    def count_answer(self, name: str, seconds: float) -> None:
        """Count a text that `name` has answered."""
        if name in self.table.entries:
            self._of.setdefault(name, SlidingWindow()).record(seconds)

    @property
    def info(self) -> BackendInfo:
        """What computes, as the first replica says."""
        return next((each.info for each in self.reports.values()), BackendInfo("", "", ""))

    @property
    def usage(self) -> Usage:
        """What the banks of all replicas hold, and have moved."""
        each = [report.usage for report in self.reports.values()]
        return Usage(*(sum(getattr(own, field.name) for own in each) for field in fields(Usage)))

    def adapters(self) -> list[AdapterStatus]:
        """Return what is served, by name."""
        tiers = self._tiers()
        return [self._served(name, entry, tiers) for name, entry in sorted(self.table.entries.items())]

    def of(self, name: str, entry: NameEntry) -> AdapterStatus:
        """Return what is told of an entry."""
        return self._served(name, entry, self._tiers())

    def adapter(self, name: str) -> AdapterStatus:
        """Return what serves as `name`. Raises UnknownName."""
        entries = self.table.entries
        if name not in entries:
            raise UnknownName(name, sorted(entries))
        return self.of(name, entries[name])

    def status(self) -> EngineStatus:
        """Return how the cluster does: ready as long as one replica is, broken without any."""
        each = [report.status for report in self.reports.values()]
        states = [own.state for own in each] or ["broken"]
        return EngineStatus(
            state="ready" if "ready" in states else states[0],
            waiting_texts=sum(own.waiting_texts for own in each),
            waiting_tokens=sum(own.waiting_tokens for own in each),
            limit_tokens=sum(own.limit_tokens for own in each),
            wait_p95=max((own.wait_p95 for own in each if own.wait_p95 is not None), default=None),
            requests_per_second=self._requests.rate(),
            adapters=len(self.table.entries),
            uptime=time.monotonic() - self._began,
        )

    def _tiers(self) -> dict[str, Tier]:
        """Return the best place where any replica has each version."""
        tiers: dict[str, Tier] = {}
        for report in self.reports.values():
            for key, tier in report.tiers.items():
                tiers[key] = min(tier, tiers.get(key, "disk"), key=_TIERS.index)
        return tiers

    def _served(self, name: str, entry: NameEntry, tiers: Mapping[str, Tier]) -> AdapterStatus:
        activity = self._of.get(name) or SlidingWindow()
        return AdapterStatus(
            name=name,
            version=entry.version,
            reference=entry.reference,
            task=entry.task,
            labels=entry.labels,
            tier=tiers.get(entry.key, "disk"),
            since=entry.since,
            requests=activity.total,
            requests_per_second=activity.rate(),
            p95=activity.p95(),
        )
