"""Which replica a call goes to: one that has the adapter ready, unless it is much busier than others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from ray.serve.request_router import FIFOMixin, MultiplexMixin, RequestRouter

if TYPE_CHECKING:
    from ray.serve.request_router import PendingRequest, RunningReplica

LEAD = 4
"""Calls that a replica with the adapter may have more than the least busy one, before others load the adapter, too.
Loading takes some tens of milliseconds, once; what it saves is the wait behind so many calls, again and again."""
_Replica = TypeVar("_Replica")


def preferred(ready: Sequence[_Replica], calls: Mapping[_Replica, int]) -> list[_Replica]:
    """Return those of `ready` that are not too busy; `calls`: under way, of every replica."""
    least = min(calls.values(), default=0)
    return [replica for replica in ready if calls[replica] <= least + LEAD]


class WarmUnlessBusy(FIFOMixin, MultiplexMixin, RequestRouter):  # type: ignore[misc]  # of Ray's types none are seen
    """Ray asks it for each call. Of the replicas it names together Ray takes the least busy one."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return whom to ask first, and whom where they have no room; those with the fewest adapters first."""
        key = ""
        if pending_request is not None:
            pending_request.routing_context.should_backoff = (
                True  # else Ray asks again at once where all are full
            )
            key = pending_request.metadata.multiplexed_model_id
        by_id = {each.replica_id: each for each in candidate_replicas}
        calls = {own: self.replica_queue_len_cache.get(own) or 0 for own in by_id}
        first = preferred([own for own in by_id if key in by_id[own].multiplexed_model_ids], calls)
        rest = [own for own in by_id if own not in first]
        rest.sort(key=lambda own: len(by_id[own].multiplexed_model_ids))
        return [[by_id[own] for own in rank] for rank in (first, rest) if rank]
