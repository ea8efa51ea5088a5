"""The state of a gateway: status, tiers and versions, from reports of the replicas and the name table."""

from __future__ import annotations

from typing import Any

import pytest

from onetrunk.adapters.methods.bank import Tier, Usage
from onetrunk.core.serving.cluster.gateway_backend import RayBackend
from onetrunk.core.serving.cluster.messages import ReplicaHealth
from onetrunk.core.serving.engine.events import EventSink
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.status import BackendInfo, EngineStatus
from tests.core.serving.cluster.sample_names import entry, names_after


def gateway() -> RayBackend:
    deployment: Any = None
    return RayBackend(deployment, deployment, Limits(), EventSink())


def report(state: str, tier: Tier, waiting: int = 0) -> ReplicaHealth:
    status = EngineStatus(state, waiting, waiting, 100, None, 0.0, 1, 0.0)
    return ReplicaHealth(BackendInfo("tiny", "cpu", "fp32"), status, Usage(*[1] * 10), {"mood@1#id": tier})


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], "broken"),
        (["overloaded"], "overloaded"),
        (["overloaded", "ready"], "ready"),
        (["broken", "ready"], "ready"),
    ],
)
def test_a_cluster_is_ready_as_long_as_one_replica_is(states: list[str], expected: str) -> None:
    state = gateway()
    state.reports = {str(i): report(state, "disk", 3) for i, state in enumerate(states)}
    status = state.status()
    assert status.state == expected
    assert (status.waiting_tokens, status.limit_tokens) == (3 * len(states), 100 * len(states))
    assert state.usage.installed == len(states)


def test_the_tier_of_a_version_is_the_best_among_the_replicas() -> None:
    state = gateway()
    state.update(names_after(("mood", "mood@1"))[1])
    assert state.adapter("mood").tier == "disk"
    state.reports = {
        "a": report("ready", "host"),
        "b": report("ready", "device"),
        "c": report("ready", "disk"),
    }
    assert state.adapter("mood").tier == "device"


def test_a_gateway_keeps_the_newest_table() -> None:
    _, table = names_after(("mood", "mood@1"))
    newer = table.with_entry("mood", entry("mood@2"))
    state = gateway()
    state.update(newer)
    state.update(table)
    assert state.adapter("mood").version == "mood@2"
