"""Status records of a serving backend. No torch is imported."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from onetrunk.core.tasks import Labels

if TYPE_CHECKING:
    from onetrunk.adapters.methods.bank import Tier


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """Static facts of a backend.

    backbone: public name of the backbone.
    device: torch device, such as `cpu` or `cuda:0`.
    precision: precision of the frozen trunk.
    """

    backbone: str
    device: str
    precision: str


@dataclass(frozen=True, slots=True)
class AdapterStatus:
    """The status of a served adapter.

    name: the served name.
    version: the version in service, such as `ner@3`.
    reference: what was requested when the version was loaded, such as `ner@prod`.
    since: when this version began to serve.
    requests: texts answered since the name was first loaded.
    requests_per_second: texts answered per second over the last minute.
    p95: 95th percentile of the latency in seconds, over the last minute; None if there was no request.
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


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """The state of a serving backend.

    state: `ready`, `loading`, `overloaded`, `draining`, or `broken` if a device thread has ended.
    waiting_texts: accepted texts that are not in a batch yet.
    waiting_tokens: accepted tokens that are not answered yet.
    limit_tokens: the current bound of `waiting_tokens`.
    wait_p95: 95th percentile of the queueing delay in seconds; None if no batch was run in the last minute.
    requests_per_second: requests answered per second over the last minute.
    adapters: number of served names.
    pending: number of served names whose adapters are loaded at their next use.
    uptime: seconds since the backend was started.
    """

    state: str
    waiting_texts: int
    waiting_tokens: int
    limit_tokens: int
    wait_p95: float | None
    requests_per_second: float
    adapters: int
    uptime: float
    pending: int = 0
