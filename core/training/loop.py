"""The training loop: several runs share the forward and backward passes over one trunk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.training.run_state import TrainingRun
from onetrunk.core.training.trainable import TrainableAdapter
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.batching import by_budget
from onetrunk.core.trunk.dropout import Masks
from onetrunk.core.trunk.packing import PART_TOKENS, Packed
from onetrunk.core.trunk.partial_forward import LayerEntry, lower_states, run_entries

AdapterRun = TrainingRun[TrainableAdapter]

SHARED_TOKENS = {"cpu": 4096, "cuda": 65536}
"""The largest number of tokens of a step that several runs share, by device type.

More tokens do not fit into the caches of a CPU (see docs/performance.md).
"""

KEPT_BYTES = 2**30
"""Default limit in bytes for the hidden states of all runs that train together.

Hidden states that exceed the limit are not kept, but computed again in each epoch.
"""


@dataclass(slots=True)
class CacheBudget:
    """The memory limit that the caches of several runs share. Not thread-safe.

    left: the number of bytes that the caches can still use.
    """

    left: int = KEPT_BYTES


class HiddenStateCache:
    """The input of layer `first` of the frozen trunk for each text of a run.

    Layers below `first` have no trainable weights and no dropout, so a text has the same hidden states in each
    epoch. If `first` is 0, nothing is kept, because looking up the embeddings is as fast.

    texts: the texts of the run.
    budget: limits the bytes that are kept. Several caches may share it.
    """

    def __init__(self, trunk: Trunk, texts: Sequence[Encoded], first: int, budget: CacheBudget) -> None:
        self.first = first
        self._trunk, self._texts = trunk, texts
        self._budget = budget
        self._kept: dict[int, Tensor] = {}

    @torch.no_grad()
    def states(self, batch: Sequence[int]) -> Tensor:
        """Return the concatenated hidden states of the texts at the indices `batch`, (tokens, hidden size)."""
        missing = [i for i in batch if i not in self._kept]
        found: dict[int, Tensor] = {}
        if missing:
            texts = [self._texts[i] for i in missing]
            layers = range(self.first)
            computed = lower_states(self._trunk, texts, None, layers, PART_TOKENS)
            found = dict(zip(missing, computed.split([text.tokens for text in texts]), strict=True))
            for index, rows in found.items():
                if self.first and rows.nbytes <= self._budget.left:
                    self._budget.left -= rows.nbytes
                    self._kept[index] = rows.clone()  # a view would keep the whole batch in memory
            if len(missing) == len(batch):
                return computed
        return torch.cat([found[i] if i in found else self._kept[i] for i in batch])

    def release(self) -> None:
        """Drop the kept hidden states and return their bytes to the budget."""
        self._budget.left += sum(rows.nbytes for rows in self._kept.values())
        self._kept = {}


def train_together(
    runs: Sequence[AdapterRun], trunk: Trunk, budget: CacheBudget | None = None
) -> Iterator[AdapterRun]:
    """Train `runs` over `trunk` in shared forward and backward passes; yield each run when it ends.

    Each run has its own data order, optimizer, schedule and early stopping. Its weights are the same as those of a
    run that trains alone, except for rounding, because the sizes of the matrices differ. An exception in a run ends
    only this run and becomes its `error`.

    budget: limits the memory for the hidden states of all runs; `KEPT_BYTES` by default. Before a run is yielded,
        its hidden states are dropped.
    All random numbers come from the seeds of the runs, so on a CPU with the same number of threads the same call
    gives the same weights bit for bit. The global generator of torch is left unchanged.
    """
    active, shared = list(runs), budget or CacheBudget()
    caches = {
        run: HiddenStateCache(run.trainable.trunk, run.train.encoded, run.trainable.first_layer, shared)
        for run in runs
    }
    while active:
        for sharing in _sharing(active, trunk):
            _step(sharing, trunk, caches)
        ended = [run for run in active if run.finished]
        active = [run for run in active if not run.finished]
        for run in ended:
            caches.pop(run).release()
            yield run


def _sharing(runs: Sequence[AdapterRun], trunk: Trunk) -> list[list[AdapterRun]]:
    """Group the runs so that the next batches of a group have at most `SHARED_TOKENS` tokens together."""
    budget = SHARED_TOKENS["cuda" if trunk.device.type == "cuda" else "cpu"]
    # A batch of one long text has more tokens than `batch_tokens`; it shares its step with no other batch.
    tokens = [max(run.batch_tokens, sum(run.train.encoded[i].tokens for i in run.batch)) for run in runs]
    groups = by_budget(range(len(runs)), tokens, budget)
    return [[runs[i] for i in group] for group in groups]


def _step(runs: Sequence[AdapterRun], trunk: Trunk, caches: Mapping[AdapterRun, HiddenStateCache]) -> None:
    runs = sorted(runs, key=lambda run: run.trainable.first_layer)
    hidden, packed = _forward(runs, trunk, caches)
    losses: list[tuple[AdapterRun, Tensor]] = []
    last = 0
    for run in runs:
        first, last = last, last + len(run.batch)
        own = hidden[packed.offsets[first] : packed.offsets[last]]
        with run.recording_error():
            losses.append((run, run.loss(own, packed.rows(first, last))))
    if losses:
        torch.autograd.backward([loss for _, loss in losses])
    for run, loss in losses:
        with run.recording_error():
            run.advance(float(loss.detach()))


def _forward(
    runs: Sequence[AdapterRun], trunk: Trunk, caches: Mapping[AdapterRun, HiddenStateCache]
) -> tuple[Tensor, Packed]:
    """Return the hidden states of the next batches, (tokens, hidden size), run after run, and their packing."""
    batches = [[run.train.encoded[i] for i in run.batch] for run in runs]
    entries = [
        LayerEntry(caches[run].first, texts, [slot] * len(texts), caches[run].states(run.batch))
        for slot, (run, texts) in enumerate(zip(runs, batches, strict=True))
    ]
    loras = {slot: run.trainable.running_lora() for slot, run in enumerate(runs)}
    drawn = {slot: run.trainable.masks(len(entries[slot].hidden)) for slot, run in enumerate(runs)}
    masks = {slot: own for slot, own in drawn.items() if own}
    most = max(PART_TOKENS, sum(run.batch_tokens for run in runs))
    return run_entries(trunk, entries, loras, Masks(masks) if masks else None, most)
