"""The training loop: steps that any number of runs share, forward and backward, over one trunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from onetrunk.core.training.run_state import Run
from onetrunk.core.trunk.batching import by_budget
from onetrunk.core.trunk.dropout import Dropout, Masks
from onetrunk.core.trunk.packed import Trunk, joined
from onetrunk.core.trunk.packing import PART_TOKENS, Packed, pack
from onetrunk.core.trunk.partial_forward import Entry, run_entries

SHARED_TOKENS = {"cpu": 4096, "cuda": 65536}
"""Tokens of a shared step at most, by device: on a CPU more of them leave its caches (docs/performance.md)."""


def train_together(runs: Sequence[Run], trunk: Trunk) -> Iterator[Run]:
    """Train `runs` over `trunk` in shared forward and backward passes; yield each as it ends.

    Each has its own data order, optimiser, schedule and early stopping, and learns what it would learn alone, up to
    the rounding of products of other sizes. What is raised in one ends that one alone and is its `error`. A run of
    method `full`, which has weights of its own, has no other beside it.
    Repeatable bit for bit on the CPU at one number of threads: all randomness comes from each run's seed, and
    torch's global generator is left as it was.
    """
    active = list(runs)
    while active:
        for sharing in _sharing(active, trunk):
            _step(sharing, trunk)
        yield from (run for run in active if run.finished)
        active = [run for run in active if not run.finished]


def _sharing(runs: Sequence[Run], trunk: Trunk) -> list[list[Run]]:
    """Return the runs in groups whose next batches together are as large as the device is best at."""
    budget = SHARED_TOKENS["cuda" if trunk.device.type == "cuda" else "cpu"]
    groups = by_budget(range(len(runs)), [run.batch_tokens for run in runs], budget)
    return [[runs[i] for i in group] for group in groups]


def _step(runs: Sequence[Run], trunk: Trunk) -> None:
    runs = sorted(runs, key=lambda run: run.learner.first_layer)
    hidden, packed = _forward(runs, trunk)
    losses: list[tuple[Run, Tensor]] = []
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


def _forward(runs: Sequence[Run], trunk: Trunk) -> tuple[Tensor, Packed]:
    """Return the hidden states (rows, width) of the runs' next batches, run after run, and how they lie."""
    if runs[0].learner.copy is not None:
        (alone,) = runs
        return _forward_copy(alone)
    batches = [[run.corpus.encoded[i] for i in run.batch] for run in runs]
    entries = [
        Entry(run.lower.first, texts, [slot] * len(texts), run.lower.of(run.batch))
        for slot, (run, texts) in enumerate(zip(runs, batches, strict=True))
    ]
    loras = {slot: run.learner.running_lora() for slot, run in enumerate(runs)}
    drawn = {slot: run.learner.masks(len(entries[slot].hidden)) for slot, run in enumerate(runs)}
    masks = {slot: own for slot, own in drawn.items() if own}
    most = sum(max(run.batch_tokens, PART_TOKENS) for run in runs)
    return run_entries(trunk, runs[0].first_position, entries, loras, Masks(masks) if masks else None, most)


def _forward_copy(run: Run) -> tuple[Tensor, Packed]:
    """The same for method `full`: every weight of the learner's copy has its part in the graph."""
    texts, learner = [run.corpus.encoded[i] for i in run.batch], run.learner
    most = max(run.batch_tokens, PART_TOKENS)
    packed = pack(texts, [0] * len(texts), run.first_position, most).to(learner.trunk.device)
    dropout = Dropout(run.settings.dropout, learner.randomness.device) if run.settings.dropout else None
    copy = learner.running_trunk()
    hidden = copy.embed(packed, dropout)
    return joined(copy.run(hidden, packed, {}, hidden_dropout=dropout), packed), packed
