"""Lanes: parts of a batch that are computed side by side, each on a thread with its share of the CPU's threads.

Threads that share one product wait for each other after each of some hundred, and what is too small to be shared
(the rows of one adapter, a norm, Python) leaves all but one of them waiting. Lanes wait for each other at the end.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import TypeVar

import torch

from onetrunk.core.trunk.batching import evenly

MOST = 4
"""Lanes at most; where there are more threads, each lane has several."""
LEAST_TOKENS = 256
"""Of a lane: fewer are computed as soon, or sooner, by all threads together."""

T = TypeVar("T")
R = TypeVar("R")


def cut(tokens: Sequence[int], keys: Sequence[int], device: torch.device) -> list[list[int]]:
    """Return the indices of a batch by lane; on a GPU, and where it is small, there is one.

    tokens: of each text. keys: those of one key stay together, but for the one between two lanes.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    count = min(MOST, threads, sum(tokens) // LEAST_TOKENS)
    if count <= 1:
        return [list(range(len(tokens)))]
    return evenly(sorted(range(len(tokens)), key=keys.__getitem__), tokens, count)


def run_in_lanes(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return what `work` makes of each item, side by side, without gradients; raises what one of them raises.

    One caller at a time has lanes, as the number of threads in a product is one for the whole process meanwhile;
    for others the items are computed one after the other.
    """
    threads = torch.get_num_threads()
    count = min(MOST, threads, len(items))
    if count <= 1 or not _lanes.taken.acquire(blocking=False):
        return [work(item) for item in items]
    results: list[R] = [None] * len(items)  # type: ignore[list-item]
    rest = iter(enumerate(items))  # which whoever is free takes the next from
    lane = partial(_run, work, rest, results, threads // count, torch.is_inference_mode_enabled())
    try:
        others = [_lanes.pool.submit(lane) for _ in range(count - 1)]
        try:
            lane()
        finally:
            wait(others)
        for other in others:
            other.result()
    finally:
        torch.set_num_threads(threads)
        _lanes.taken.release()
    return results


def _run(
    work: Callable[[T], R], rest: Iterator[tuple[int, T]], results: list[R], threads: int, inference: bool
) -> None:
    torch.set_num_threads(threads)  # of this thread's own products, and of who starts to compute meanwhile
    with torch.inference_mode(inference), torch.no_grad():
        for index, item in rest:
            results[index] = work(item)


class _Lanes:
    """The threads of the lanes, and whether somebody has them."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(MOST - 1, "onetrunk-lane")
        self.taken = threading.Lock()


_lanes = _Lanes()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _lanes.__init__())  # type: ignore[misc]  # threads are not inherited
