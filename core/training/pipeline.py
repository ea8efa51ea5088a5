"""Train adapters together over one trunk; each is stored as soon as its training has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import UsageError
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.training.job import PreparedJob, TrainJob, TrainResult
from onetrunk.core.training.loop import AdapterRun, train_together
from onetrunk.core.trunk.build import trunk_of

Outcome = TrainResult | Exception
"""The result of a job, or the exception that ended it."""


def train_adapter(host: PluginHost, store: Store, job: TrainJob, backbone: Backbone) -> TrainResult:
    """Train one adapter and store it. Raises the exception that ended the run; then nothing is stored."""
    (outcome,) = train_adapters(host, store, [job], backbone)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def train_adapters(
    host: PluginHost,
    store: Store,
    jobs: Sequence[TrainJob],
    backbone: Backbone,
    ended: Callable[[int, Outcome], None] | None = None,
) -> list[Outcome]:
    """Train `jobs` over one trunk in shared forward and backward passes; return one outcome per job, in order.

    Each adapter is stored as soon as its run has succeeded. An exception in one job does not stop the other jobs.

    ended: called at the end of each job, with the index and the outcome of the job.
    Raises UsageError for a backbone in int8.
    """
    check_trainable(backbone)
    trunk = trunk_of(backbone)
    outcomes: dict[int, Outcome] = {}
    prepared: dict[AdapterRun, tuple[int, PreparedJob]] = {}

    def end(index: int, outcome: Outcome) -> None:
        outcomes[index] = outcome
        if ended is not None:
            ended(index, outcome)

    for index, job in enumerate(jobs):
        try:
            ready = PreparedJob(host, store, job, backbone, trunk)
        except Exception as error:
            end(index, error)
        else:
            prepared |= dict.fromkeys(ready.runs, (index, ready))
    for run in train_together(list(prepared), trunk):
        index, ready = prepared.pop(run)
        if any(other in prepared for other in ready.runs):
            continue
        try:
            outcome: Outcome = ready.finish()
        except Exception as error:
            outcome = error
        end(index, outcome)
    return [outcomes[index] for index in range(len(jobs))]


def check_trainable(backbone: Backbone) -> None:
    """Raise UsageError for a backbone in int8."""
    if backbone.dtype == torch.int8:
        raise UsageError("a backbone in int8 can only predict; load it in fp32 or bf16 to train")
