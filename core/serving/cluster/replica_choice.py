"""Chooses replicas for a call, by the number of their running calls. Does not import Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

MAX_LEAD = 4
"""A replica that has the adapter loaded may have this many more running calls than the least busy replica.

If all replicas that have the adapter loaded have more running calls, another replica loads it, too. A load takes
some tens of milliseconds, once; to queue behind more calls takes longer."""
_Replica = TypeVar("_Replica")


def preferred_replicas(loaded: Sequence[_Replica], calls: Mapping[_Replica, int]) -> list[_Replica]:
    """Return the replicas of `loaded` that are not much busier than the least busy one.

    loaded: the replicas that have the adapter loaded.
    calls: number of running calls of every replica.
    """
    least = min(calls.values(), default=0)
    return [replica for replica in loaded if calls[replica] <= least + MAX_LEAD]
