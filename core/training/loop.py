"""The training loop: steps that any number of runs share, forward and backward, over one trunk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from onetrunk.core.training.hidden_cache import LowerStates, StateBudget
from onetrunk.core.training.run_state import Run
from onetrunk.core.training.trainable import Learner
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.batching import by_budget
from onetrunk.core.trunk.dropout import Masks
from onetrunk.core.trunk.packing import PART_TOKENS, Packed
from onetrunk.core.trunk.partial_forward import LayerEntry, run_entries

AdapterRun = Run[Learner]

SHARED_TOKENS = {"cpu": 4096, "cuda": 65536}
"""Tokens of a shared step at most, by device: on a CPU more of them leave its caches (docs/performance.md)."""


def train_together(
    runs: Sequence[AdapterRun], trunk: Trunk, budget: StateBudget | None = None
) -> Iterator[AdapterRun]:
    """Train `runs` over `trunk` in shared forward and backward passes; yield each as it ends.

    Each has its own data order, optimiser, schedule and early stopping, and learns what it would learn alone, up to
    the rounding of products of other sizes. What is raised in one ends that one alone and is its `error`.
    budget: limits the hidden states that all runs together keep; `KEPT_BYTES` by default. A run that ended gives
        its share back before it is yielded.
    Repeatable bit for bit on the CPU at one number of threads: all randomness comes from each run's seed, and
    torch's global generator is left as it was.
    """
    active, shared = list(runs), budget or StateBudget()
    lowers = {run: _lower_states(run, shared) for run in runs}
    while active:
        for sharing in _sharing(active, trunk):
            _step(sharing, trunk, lowers)
        ended = [run for run in active if run.finished]
        active = [run for run in active if not run.finished]
        for run in ended:
            lowers.pop(run).release()
            yield run


def _lower_states(run: AdapterRun, budget: StateBudget) -> LowerStates:
    learner = run.learner
    return LowerStates(learner.trunk, run.corpus.encoded, learner.first_layer, budget)


def _sharing(runs: Sequence[AdapterRun], trunk: Trunk) -> list[list[AdapterRun]]:
    """Return the runs in groups whose next batches together are as large as the device is best at."""
    budget = SHARED_TOKENS["cuda" if trunk.device.type == "cuda" else "cpu"]
    groups = by_budget(range(len(runs)), [run.batch_tokens for run in runs], budget)
    return [[runs[i] for i in group] for group in groups]


def _step(runs: Sequence[AdapterRun], trunk: Trunk, lowers: Mapping[AdapterRun, LowerStates]) -> None:
    runs = sorted(runs, key=lambda run: run.learner.first_layer)
    hidden, packed = _forward(runs, trunk, lowers)
    losses: list[tuple[AdapterRun, Tensor]] = []
    last = 0
    for run in runs:
        first, last = last, last + len(run.batch)
        own = hidden[packed.offsets[first] : packed.offsets[last]]
        with run.ending_alone():
            losses.append((run, run.loss(own, packed.rows(first, last))))
    if losses:
        torch.autograd.backward([loss for _, loss in losses])
    for run, loss in losses:
        with run.ending_alone():
            run.advance(float(loss.detach()))


def _forward(
    runs: Sequence[AdapterRun], trunk: Trunk, lowers: Mapping[AdapterRun, LowerStates]
) -> tuple[Tensor, Packed]:
    """Return the hidden states (rows, width) of the runs' next batches, run after run, and how they lie."""
    batches = [[run.corpus.encoded[i] for i in run.batch] for run in runs]
    entries = [
        LayerEntry(lowers[run].first, texts, [slot] * len(texts), lowers[run].of(run.batch))
        for slot, (run, texts) in enumerate(zip(runs, batches, strict=True))
    ]
    loras = {slot: run.learner.running_lora() for slot, run in enumerate(runs)}
    drawn = {slot: run.learner.masks(len(entries[slot].hidden)) for slot, run in enumerate(runs)}
    masks = {slot: own for slot, own in drawn.items() if own}
    most = sum(max(run.batch_tokens, PART_TOKENS) for run in runs)
    return run_entries(trunk, entries, loras, Masks(masks) if masks else None, most)
