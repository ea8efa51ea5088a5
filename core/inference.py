"""Examples → logits: the part of prediction, evaluation and the probe that is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from onetrunk.core.adapter import Adapter
from onetrunk.core.batching import inference_batches
from onetrunk.core.encoding import Encoded, TextEncoder
from onetrunk.core.packing import pack
from onetrunk.core.tasks import Example, TaskSpec
from onetrunk.core.trunk import Trunk

BATCH_TOKENS = 2048
"""Default token budget of a batch: large enough for full speed on a CPU, small enough for its caches."""


@dataclass(frozen=True, slots=True)
class Job:
    """One text for one adapter; `slot` is the adapter's index."""

    encoded: Encoded
    slot: int


def encode_examples(encoder: TextEncoder, spec: TaskSpec, examples: Sequence[Example]) -> list[Encoded]:
    """Tokenise `examples` with the word spans that their task needs."""
    return encoder.encode([e.text for e in examples], [spec.spans(e) for e in examples])


def ignore(jobs: int) -> None:
    """Hear of progress and do nothing."""


@torch.inference_mode()
def compute_logits(
    trunk: Trunk,
    first_position: int,
    adapters: Sequence[Adapter],
    jobs: Sequence[Job],
    batch_tokens: int = BATCH_TOKENS,
    advance: Callable[[int], None] = ignore,
) -> list[np.ndarray]:
    """Return the logits of each job, (units, labels) float32, in the order of `jobs`.

    Jobs of all adapters share batches; `advance` hears how many jobs each batch finished.
    """
    results: list[np.ndarray | None] = [None] * len(jobs)
    tokens = [job.encoded.tokens for job in jobs]
    for batch in inference_batches(tokens, batch_tokens):
        batch.sort(key=lambda i: jobs[i].slot)
        for index, logits in zip(
            batch, _batch_logits(trunk, first_position, adapters, jobs, batch), strict=True
        ):
            results[index] = logits
        advance(len(batch))
    return results  # type: ignore[return-value]


def _batch_logits(
    trunk: Trunk, first_position: int, adapters: Sequence[Adapter], jobs: Sequence[Job], batch: Sequence[int]
) -> Iterator[np.ndarray]:
    """Yield the logits of `batch`, which is sorted by slot."""
    slots = [jobs[i].slot for i in batch]
    packed = pack([jobs[i].encoded for i in batch], slots, first_position).to(trunk.device)
    hidden = trunk.forward(packed, {slot: adapters[slot].lora for slot in set(slots)})
    first = 0
    while first < len(batch):
        adapter = adapters[slots[first]]
        last = first + slots.count(slots[first])
        logits = adapter.head(hidden[packed.offsets[first] : packed.offsets[last]], packed.rows(first, last))
        units = [
            len(jobs[i].encoded.words) if adapter.spec.level == "token" else 1 for i in batch[first:last]
        ]
        yield from np.split(logits.float().cpu().numpy(), np.cumsum(units)[:-1])
        first = last
