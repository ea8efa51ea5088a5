"""Runs parts of a CPU batch in parallel, one thread group each.

A product that is split over threads ends with a barrier, as do some hundred others in a forward pass, and small
operations (the rows of one adapter, a norm, Python) run on one thread while the others wait. Parts of a batch on
threads of their own have one barrier, at the end.
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
"""Largest number of parallel parts; with more threads, each part has several."""
LEAST_TOKENS = 256
"""Fewest tokens of a part: all threads together compute a smaller batch as fast, or faster."""

T = TypeVar("T")
R = TypeVar("R")


def split_for_threads(tokens: Sequence[int], keys: Sequence[int], device: torch.device) -> list[list[int]]:
    """Split the indices of a batch into parts for `run_parallel`; one part on a GPU or for a small batch.

    tokens: number of tokens of each text.
    keys: texts of one key stay in one part, except at the border of two parts.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    count = min(MOST, threads, sum(tokens) // LEAST_TOKENS)
    if count <= 1:
        return [list(range(len(tokens)))]
    return evenly(sorted(range(len(tokens)), key=keys.__getitem__), tokens, count)


def run_parallel(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return `work(item)` for each item, without gradients. Raises the first error after all items have ended.

    One caller at a time has the threads; other callers run their items one after another on their own thread.
    """
    threads = torch.get_num_threads()
    count = min(MOST, threads, len(items))
    if count <= 1 or not _threads.taken.acquire(blocking=False):
        return [work(item) for item in items]
    results: list[R] = [None] * len(items)  # type: ignore[list-item]
    rest = iter(enumerate(items))  # shared: a thread takes the next item when it is free
    run = partial(_run, work, rest, results, torch.is_inference_mode_enabled())
    try:
        pool = _threads.pool(count, threads)
        running = [pool.submit(run) for _ in range(count)]
        wait(running)
    finally:
        _threads.taken.release()
    for own in running:
        own.result()
    return results


def _run(work: Callable[[T], R], rest: Iterator[tuple[int, T]], results: list[R], inference: bool) -> None:
    with torch.inference_mode(inference), torch.no_grad():
        for index, item in rest:
            results[index] = work(item)


class _Threads:
    """The thread pools. taken: held by the caller that uses them."""

    def __init__(self) -> None:
        self.taken = threading.Lock()
        self._pools: dict[tuple[int, int], ThreadPoolExecutor] = {}

    def pool(self, count: int, threads: int) -> ThreadPoolExecutor:
        """Return `count` threads that share `threads` of torch's threads. The caller holds `taken`.

        A thread takes torch's current number of threads at its first operation and keeps it. The share is therefore
        set while the pool starts, and the number of the process is restored before this returns.
        """
        key = (count, threads)
        if key not in self._pools:
            self._pools[key] = pool = ThreadPoolExecutor(count, "onetrunk-parallel")
            started = threading.Barrier(count)
            wait([pool.submit(_take_share, threads // count, started) for _ in range(count)])
            torch.set_num_threads(threads)
        return self._pools[key]


def _take_share(threads: int, started: threading.Barrier) -> None:
    started.wait()  # each thread takes one share
    torch.get_num_threads()  # the first call in a thread reads the number of the process, and would do so later
    torch.set_num_threads(threads)


_threads = _Threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _threads.__init__())  # type: ignore[misc]  # a fork has no threads
