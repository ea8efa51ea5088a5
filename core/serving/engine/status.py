"""What a service tells about itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from onetrunk.adapters.methods.bank import Tier
from onetrunk.core.inference.registry import ServedName
from onetrunk.core.serving.engine.stats import Activity
from onetrunk.core.tasks import Labels


@dataclass(frozen=True, slots=True)
class Served:
    """An adapter in service.

    requests: texts that it was asked since it was loaded first; requests_per_second, p95 (seconds, None where
    nobody has asked): of the last minute.
    """

    name: str
    version: str
    reference: str
    task: str
    labels: Labels
    tier: Tier
    since: datetime
    requests: int
    requests_per_second: float
    p95: float | None

    @classmethod
    def of(cls, name: str, post: ServedName, tier: Tier, activity: Activity) -> Served:
        """Return what is told of `post`."""
        adapter = post.loaded.adapter
        return cls(
            name=name,
            version=post.version,
            reference=post.reference,
            task=adapter.spec.name,
            labels=adapter.labels,
            tier=tier,
            since=post.since,
            requests=activity.total,
            requests_per_second=activity.rate(),
            p95=activity.p95(),
        )


@dataclass(frozen=True, slots=True)
class Status:
    """How an engine does.

    state: ready, overloaded, draining, or broken where the device thread has ended.
    waiting_tokens: accepted and not yet answered; waiting_texts: those of them that are in no batch yet.
    wait_p95: seconds until a batch was begun, None if nothing has waited lately. uptime: seconds.
    """

    state: str
    waiting_texts: int
    waiting_tokens: int
    limit_tokens: int
    wait_p95: float | None
    requests_per_second: float
    adapters: int
    uptime: float
