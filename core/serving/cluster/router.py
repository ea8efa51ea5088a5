"""The request router: prefers replicas that have the adapter loaded, unless they are much busier than others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.serve.request_router import FIFOMixin, MultiplexMixin, RequestRouter

from onetrunk.core.serving.cluster.replica_choice import preferred_replicas

if TYPE_CHECKING:
    from ray.serve.request_router import PendingRequest, RunningReplica


class WarmReplicaRouter(FIFOMixin, MultiplexMixin, RequestRouter):  # type: ignore[misc]  # Ray has no types
    """Chooses groups of replicas for a call. Ray takes the least busy replica of the first group with capacity."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return two groups: the preferred replicas, and the others, sorted by their number of loaded adapters."""
        key = ""
        if pending_request is not None:
            # Without this, Ray retries without a pause while all replicas are full.
            pending_request.routing_context.should_backoff = True
            key = pending_request.metadata.multiplexed_model_id
        by_id = {each.replica_id: each for each in candidate_replicas}
        calls = {own: self.replica_queue_len_cache.get(own) or 0 for own in by_id}
        first = preferred_replicas([own for own in by_id if key in by_id[own].multiplexed_model_ids], calls)
        rest = [own for own in by_id if own not in first]
        rest.sort(key=lambda own: len(by_id[own].multiplexed_model_ids))
        return [[by_id[own] for own in group] for group in (first, rest) if group]
