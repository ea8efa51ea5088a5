"""Which replica a call goes to: one that has the adapter ready, unless it is much busier than others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.serve.request_router import FIFOMixin, MultiplexMixin, RequestRouter

from onetrunk.core.serving.cluster.replica_choice import preferred

if TYPE_CHECKING:
    from ray.serve.request_router import PendingRequest, RunningReplica


class WarmReplicaRouter(FIFOMixin, MultiplexMixin, RequestRouter):  # type: ignore[misc]  # of Ray's types none are seen
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
