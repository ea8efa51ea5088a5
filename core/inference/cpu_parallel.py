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


def split_for_threads(tokens: Sequence[int], keys: Sequence[int], device: torch.device) -> list[list[int]]:
    """Return the indices of a batch by lane; on a GPU, and where it is small, there is one.

    tokens: of each text. keys: those of one key stay together, but for the one between two lanes.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    count = min(MOST, threads, sum(tokens) // LEAST_TOKENS)
    if count <= 1:
        return [list(range(len(tokens)))]
    return evenly(sorted(range(len(tokens)), key=keys.__getitem__), tokens, count)


def run_parallel(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return what `work` makes of each item, side by side, without gradients; raises what one of them raises.

    One caller at a time has lanes; for others the items are computed one after the other, on their own threads.
    """
    threads = torch.get_num_threads()
    count = min(MOST, threads, len(items))
    if count <= 1 or not _lanes.taken.acquire(blocking=False):
        return [work(item) for item in items]
    results: list[R] = [None] * len(items)  # type: ignore[list-item]
    rest = iter(enumerate(items))  # which whoever is free takes the next from
    lane = partial(_run, work, rest, results, torch.is_inference_mode_enabled())
    try:
        pool = _lanes.pool(count, threads)
        lanes = [pool.submit(lane) for _ in range(count)]
        wait(lanes)
    finally:
        _lanes.taken.release()
    for own in lanes:
        own.result()
    return results


def _run(work: Callable[[T], R], rest: Iterator[tuple[int, T]], results: list[R], inference: bool) -> None:
    with torch.inference_mode(inference), torch.no_grad():
        for index, item in rest:
            results[index] = work(item)


class _Lanes:
    """The threads of the lanes. taken: held by whoever uses them."""

    def __init__(self) -> None:
        self.taken = threading.Lock()
        self._pools: dict[tuple[int, int], ThreadPoolExecutor] = {}

    def pool(self, count: int, threads: int) -> ThreadPoolExecutor:
        """Return `count` threads that have `threads` of torch's between them; the caller holds `taken`.

        A thread that computes for the first time takes the number that was set last in any thread, and keeps it.
        The share is therefore set once, while the pool is made, and the number is as before when this returns.
        """
        key = (count, threads)
        if key not in self._pools:
            self._pools[key] = pool = ThreadPoolExecutor(count, "onetrunk-lane")
            started = threading.Barrier(count)
            wait([pool.submit(_take_share, threads // count, started) for _ in range(count)])
            torch.set_num_threads(threads)
        return self._pools[key]


def _take_share(threads: int, started: threading.Barrier) -> None:
    started.wait()  # so that no thread is given two shares
    torch.get_num_threads()  # the first call in a thread takes the process's number, also over one set before it
    torch.set_num_threads(threads)


_lanes = _Lanes()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _lanes.__init__())  # type: ignore[misc]  # threads are not inherited
