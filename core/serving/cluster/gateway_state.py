"""The state of a gateway: the name table, the health of the replicas, and statistics of the gateway's requests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields

from typing_extensions import override

from onetrunk.adapters.methods.bank import Tier, Usage
from onetrunk.core.serving.cluster.messages import NameEntry, NameTable, ReplicaHealth
from onetrunk.core.serving.engine.backend import ServingBackend
from onetrunk.core.serving.engine.events import EventSink
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.status import BackendInfo, EngineStatus
from onetrunk.core.tasks import Labels

_TIERS: tuple[Tier, ...] = ("device", "host", "disk")  # the fastest one first


class GatewayState(ServingBackend):
    """The part of `RayBackend` that does not import Ray: the newest name table and health reports.

    reports: health of each replica, by the id of the replica.
    """

    def __init__(self, limits: Limits, events: EventSink) -> None:
        super().__init__(limits, events)
        self.table = NameTable("", "")
        self.reports: Mapping[str, ReplicaHealth] = {}

    def update(self, table: NameTable) -> None:
        """Replace the table, unless the new one is an older revision of the same epoch."""
        if table.epoch != self.table.epoch or table.revision > self.table.revision:
            self.table = table
            self._drop_windows()

    @property
    @override
    def info(self) -> BackendInfo:
        return next((report.info for report in self.reports.values()), BackendInfo("", "", ""))

    @property
    @override
    def usage(self) -> Usage:
        usages = [report.usage for report in self.reports.values()]
        return Usage(*(sum(getattr(own, field.name) for own in usages) for field in fields(Usage)))

    @property
    @override
    def served(self) -> Mapping[str, NameEntry]:
        return self.table.entries

    @override
    def status(self) -> EngineStatus:
        """Return the summed queues. The state is `ready` if one replica is ready, `broken` without replicas."""
        each = [report.status for report in self.reports.values()]
        states = [own.state for own in each] or ["broken"]
        return EngineStatus(
            state="ready" if "ready" in states else states[0],
            waiting_texts=sum(own.waiting_texts for own in each),
            waiting_tokens=sum(own.waiting_tokens for own in each),
            limit_tokens=sum(own.limit_tokens for own in each),
            wait_p95=max((own.wait_p95 for own in each if own.wait_p95 is not None), default=None),
            requests_per_second=self._requests.rate(),
            adapters=len(self.served),
            uptime=time.monotonic() - self._started,
        )

    @override
    def _details(self, served: NameEntry) -> tuple[str, Labels, Tier]:
        loaded = [report.tiers[served.key] for report in self.reports.values() if served.key in report.tiers]
        tiers: list[Tier] = [*loaded, "disk"]
        return served.task, served.labels, min(tiers, key=_TIERS.index)
