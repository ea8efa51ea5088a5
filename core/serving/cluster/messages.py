"""What gateways and replicas tell each other."""

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
"""What comes of the inputs of a request, or why there is nothing at all. Errors cross as values: raised, they would
arrive as another class."""


@dataclass(frozen=True, slots=True)
class ReplicaHealth:
    """How a replica does. tiers: where it has each version, by key."""

    info: BackendInfo
    status: EngineStatus
    usage: Usage
    tiers: Mapping[str, Tier]
