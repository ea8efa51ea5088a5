"""Which of the replicas that have an adapter ready should answer for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

LEAD = 4
"""Calls that a replica with the adapter may have more than the least busy one, before others load the adapter, too.
Loading takes some tens of milliseconds, once; what it saves is the wait behind so many calls, again and again."""
_Replica = TypeVar("_Replica")


def preferred(ready: Sequence[_Replica], calls: Mapping[_Replica, int]) -> list[_Replica]:
    """Return those of `ready` that are not too busy; `calls`: under way, of every replica."""
    least = min(calls.values(), default=0)
    return [replica for replica in ready if calls[replica] <= least + LEAD]
