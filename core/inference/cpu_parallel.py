"""Runs parts of a CPU batch in parallel, each part on its own group of threads.

Threads that compute one product together wait for each other at its end, a hundred times in a forward pass. During
small operations (the rows of one adapter, a norm, Python) all threads but one wait. If each group of threads
computes a part of the batch, they wait only once, at the end.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from onetrunk.core.trunk.batching import evenly

MOST = 4
"""Largest number of parallel parts. With more threads than parts, a part has several threads."""
LEAST_TOKENS = 256
"""Smallest number of tokens of a part. All threads together compute a smaller batch as fast."""

T = TypeVar("T")
R = TypeVar("R")


def split_for_threads(tokens: Sequence[int], keys: Sequence[int], device: torch.device) -> list[list[int]]:
    """Split the indices of a batch into parts for `run_parallel`; one part on a GPU or for a small batch.

    tokens: number of tokens of each text.
    keys: a number for each text. Texts with one number are neighbours, so that most are in one part.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    count = min(MOST, threads, sum(tokens) // LEAST_TOKENS)
    if count <= 1:
        return [list(range(len(tokens)))]
    return evenly(sorted(range(len(tokens)), key=keys.__getitem__), tokens, count)


def run_parallel(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return `work(item)` for each item, without gradients. Raises an error of `work` after all threads have ended.

    One caller at a time uses the threads. Meanwhile, other callers run their items one after another, on the thread
    that calls.
    """
    threads = torch.get_num_threads()
    count = min(MOST, threads, len(items))
    if count <= 1 or not _threads.taken.acquire(blocking=False):
        return [work(item) for item in items]
    results: list[R] = [None] * len(items)  # type: ignore[list-item]
    rest = iter(enumerate(items))  # a thread that is free takes the next item
    inference = torch.is_inference_mode_enabled()

    def run() -> None:
        with torch.inference_mode(inference), torch.no_grad():
            for index, item in rest:
                results[index] = work(item)

    try:
        pool = _threads.pool(count, threads)
        running = [pool.submit(run) for _ in range(count)]
        wait(running)
    finally:
        _threads.taken.release()
    for own in running:
        own.result()
    return results


class _Threads:
    """The thread pools. The caller of `run_parallel` that uses them holds `taken`."""

    def __init__(self) -> None:
        self.taken = threading.Lock()
        self._pools: dict[tuple[int, int], ThreadPoolExecutor] = {}

    def pool(self, count: int, threads: int) -> ThreadPoolExecutor:
        """Return a pool of `count` threads. Each computes with an equal share of `threads` threads of torch.

        torch sets the number of threads for the calling thread and, as the default, for the process. Each thread of
        the pool therefore sets its share when it starts; then the default of the process is restored.
        """
        key = (count, threads)
        if key not in self._pools:
            self._pools[key] = pool = ThreadPoolExecutor(count, "onetrunk-parallel")
            started = threading.Barrier(count)

            def take_share() -> None:
                started.wait()  # so that each thread of the pool runs this function once
                torch.get_num_threads()  # a thread's first call reads the default, which would undo the next line
                torch.set_num_threads(threads // count)

            wait([pool.submit(take_share) for _ in range(count)])
            torch.set_num_threads(threads)
        return self._pools[key]


_threads = _Threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _threads.__init__())  # type: ignore[misc]  # a fork has no threads
