"""Chooses replicas for a call, by the number of their running calls. Does not import Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

MAX_LEAD = 4
"""A replica that has the adapter loaded may have this many more running calls than the least busy replica.

Beyond that, another replica loads it, too. A load takes some tens of milliseconds, once; requests that queue
behind more calls lose more time."""
_Replica = TypeVar("_Replica")


def preferred_replicas(loaded: Sequence[_Replica], calls: Mapping[_Replica, int]) -> list[_Replica]:
    """Return the replicas that have the adapter loaded and are not much busier than others.

    loaded: the replicas that have the adapter loaded.
    calls: running calls of every replica.
    """
    least = min(calls.values(), default=0)
    return [replica for replica in loaded if calls[replica] <= least + MAX_LEAD]
