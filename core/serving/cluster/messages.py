"""Messages between gateways and replicas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from onetrunk.adapters.methods.bank import Tier, Usage
from onetrunk.core.errors import OneTrunkError
from onetrunk.core.serving.engine.backend import BackendInfo
from onetrunk.core.serving.engine.requests import Result
from onetrunk.core.serving.engine.status import EngineStatus

Outcome: TypeAlias = list[Result] | OneTrunkError
"""The results of a request, or the error of the whole request. Errors are returned, not raised: Ray would wrap a
raised error in a class of its own."""


@dataclass(frozen=True, slots=True)
class ReplicaHealth:
    """Health report of a replica. tiers: where it has the weights of each loaded version, by key."""

    info: BackendInfo
    status: EngineStatus
    usage: Usage
    tiers: Mapping[str, Tier]
