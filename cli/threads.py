"""CPU threads of the commands that compute: the option `--threads`, and the choice on a busy machine.

torch computes a product on all processors, and its threads wait for each other a hundred times in a batch. If
another process uses one of the processors, all threads wait for the slowest one: two can be slower than one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from onetrunk.core.backbones.machine import usable_processors
from onetrunk.core.data.notes import Note

if TYPE_CHECKING:
    from onetrunk.core.backbones.backbone import Backbone

_REPEATS = 3
_PRODUCTS = 8
"""Pairs of products of a measured step: about as much as a batch of the default backbone."""

threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="CPU threads.  [default: one for each processor that the process may use; 1 if the machine is busy and "
    "one thread is faster]",
)
"""Adds the option `--threads`, passed as `threads`."""


def use_threads(given: int | None, backbone: Backbone, *, measure: bool = True) -> list[Note]:
    """Set the number of CPU threads of torch for this process, and return a note if it is not the usual one.

    given: the number that the user chose; None to choose it. On a GPU, nothing changes without a choice.
    measure: whether the load of the machine counts; not in a process that outlasts the load, such as a service.
    """
    import torch

    if given is not None:
        torch.set_num_threads(given)
        return []
    if backbone.device.type != "cpu" or "OMP_NUM_THREADS" in os.environ:
        return []
    before, processors = torch.get_num_threads(), usable_processors()
    load = os.getloadavg()[0] if measure and hasattr(os, "getloadavg") else 0.0
    threads, why = choose_threads(before, processors, load, step_seconds)
    torch.set_num_threads(threads)
    message = f"computing with {threads} of {before} CPU threads: {why}"
    return [Note("threads", message, count=threads)] if why else []


def choose_threads(
    threads: int, processors: int, load: float, seconds: Callable[[int], float]
) -> tuple[int, str]:
    """Return the number of threads to use, and why it is less than `threads`; "" if it is not.

    processors: the number of processors that the process may use.
    load: the load average, the number of threads of all processes that want to run.
    seconds: the duration of a step with a number of threads; called only on a busy machine.
    """
    usual = min(threads, processors)
    limited = (
        "" if usual == threads else f"the process may use {processors} of the processors; --threads sets it"
    )
    if usual == 1 or load < 1:
        return usual, limited
    alone, together = seconds(1), seconds(usual)
    if alone >= together:
        return usual, limited
    return 1, (
        f"other processes use the processors (load {load:.1f}), and one thread is {together / alone:.1f} times as "
        f"fast as {usual}; --threads sets it"
    )


def step_seconds(threads: int) -> float:
    """Return the seconds of a small computation with this number of threads, like a part of a training step."""
    import torch

    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(512, 384, generator=generator)
    up, down = (torch.randn(*shape, generator=generator) / 32 for shape in ((384, 1536), (1536, 384)))
    torch.set_num_threads(threads)
    _products(rows, up, down)  # starts the threads
    began = time.perf_counter()
    for _ in range(_REPEATS):
        _products(rows, up, down)
    return (time.perf_counter() - began) / _REPEATS


def _products(rows: Any, up: Any, down: Any) -> None:
    import torch

    with torch.inference_mode():
        for _ in range(_PRODUCTS):
            rows = torch.nn.functional.layer_norm(torch.nn.functional.gelu(rows @ up) @ down, (384,))
