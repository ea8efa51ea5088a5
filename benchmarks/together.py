"""Several adapters trained at once over one trunk, against the same runs one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.equality import WrongOutput
from benchmarks.timing import synchronize, take_turns
from benchmarks.trainers import Course, run_of
from onetrunk.core.training.loop import AdapterRun, train_together
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.build import trunk_of

TOLERANCE = 1e-4
"""Largest difference of a weight after the compared steps."""
RATE = 1e-4
"""Of the compared steps: at larger ones AdamW turns the rounding of a gradient near zero into a whole step."""


def measure_together(courses: Sequence[Course], small: Sequence[Course], rounds: int) -> dict[str, Any]:
    """Compare the weights that `small` gives both ways, then time both on `courses`; return a record each."""
    trunk = trunk_of(courses[0].backbone, torch.float32)
    try:
        error = difference(small, trunk)
    except WrongOutput as reason:
        return {"together": {"status": "failed", "reason": str(reason)}}
    turns: dict[str, Callable[[], tuple[float, ...]]] = {
        "in a row": lambda: (seconds([[run] for run in runs_of(courses, trunk)], trunk),),
        "together": lambda: (seconds([runs_of(courses, trunk)], trunk),),
    }
    timed = take_turns(turns, rounds)
    return {
        name: {"status": "ok", "error": error, "kind_of_error": "of weights", "precision": "fp32"}
        | timing.to_json()
        for name, timing in timed.items()
    }


def runs_of(courses: Sequence[Course], trunk: Trunk) -> list[AdapterRun]:
    """Return a fresh run of each course."""
    return [run_of(course, trunk, seed) for seed, course in enumerate(courses)]


def seconds(groups: Sequence[Sequence[AdapterRun]], trunk: Trunk) -> float:
    """Return the time to train each group, one after the other; the runs of a group share their steps."""
    begin = time.perf_counter()
    for group in groups:
        for run in train_together(group, trunk):
            run.result()
    synchronize(trunk.device)
    return time.perf_counter() - begin


def difference(courses: Sequence[Course], trunk: Trunk) -> float:
    """Return the largest difference between weights trained in a row and together. Raises WrongOutput."""
    slow = [replace(c, settings=replace(c.settings, lr=RATE, head_lr=RATE)) for c in courses]
    alone, shared = runs_of(slow, trunk), runs_of(slow, trunk)
    seconds([[run] for run in alone], trunk)
    seconds([shared], trunk)
    worst = max(
        float((own - other).abs().max())
        for one, two in zip(alone, shared, strict=True)
        for own, other in zip(weights(one), weights(two), strict=True)
    )
    if not worst <= TOLERANCE:
        raise WrongOutput(f"weights differ by {worst:.2g}, at most {TOLERANCE:g} is right")
    return worst


def weights(run: AdapterRun) -> list[Tensor]:
    """Return all that `run` has trained."""
    return [*run.trainable.weights, *run.trainable.head.state_dict().values()]
