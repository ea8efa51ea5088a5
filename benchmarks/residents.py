"""Adapters that come and go: loads from disk, swaps in service, and what an evicted one costs, by `OneTrunk`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.single import Stored
from benchmarks.timing import Timing
from onetrunk.adapters.store.store import Store
from onetrunk.core.inference.predictor import OneTrunk

KEY = "residents come and go qv8"
COUNT, ENDS, SWAPS = 1000, 50, 100
"""Adapters loaded, how many of the first and last are looked at, and how often two change places."""


def run_residents(stored: Stored, scratch: Path, count: int) -> dict[str, Any]:
    """Load `count` adapters of one store one after the other, then swap and evict; return the workload's record.

    They are copies of one adapter under names of their own, so that each is read, verified and probed by itself.
    """
    store = _copies(stored, scratch / "copies", count)
    ends = min(ENDS, count // 2)
    trunk = OneTrunk(stored.backbone, store=store)
    trunk.load("a0@1")  # whatever is imported and compiled once
    trunk.unload("a0@1")
    loads = list(_seconds(lambda i: trunk.load(f"a{i}@1"), range(count)))
    small = OneTrunk(stored.backbone, store=store, memory=0)
    for i in range(3):
        small.load(f"a{i}@1")
    text = ["where is my card"]
    evicted = list(_seconds(lambda i: small.predict(text, [f"a{i % 3}@1"]), range(ENDS)))
    resident = list(_seconds(lambda i: trunk.predict(text, [f"a{i % 3}@1"]), range(ENDS)))
    timed = {
        f"load of the first {ends}": loads[:ends],
        f"load of the last {ends} of {count}": loads[-ends:],
        f"swap among {count}": list(_swaps(trunk, store)),
        "predict, evicted": evicted,
        "predict, resident": resident,
    }
    return {"variants": {name: _record(seconds) for name, seconds in timed.items()}}


def _copies(stored: Stored, root: Path, count: int) -> Store:
    """Return a store with `count` adapters of one version each; the first has a second one, to swap with."""
    store = Store(root)
    for name in (*(f"a{i}" for i in range(count)), "a0"):
        store.add(name, partial(shutil.copytree, stored.version.path, dirs_exist_ok=True))
    return store


def _swaps(trunk: OneTrunk, store: Store) -> Iterable[float]:
    """Yield the seconds of each `load` after an alias has moved from one version in service to the other."""
    store.alias("a0", "prod", 1)
    for reference in ("a0@1", "a0@2", "a0@prod"):
        trunk.load(reference)
    for i in range(SWAPS):
        store.alias("a0", "prod", 2 - i % 2)
        yield from _seconds(lambda _: trunk.load("a0@prod"), range(1))


def _seconds(call: Callable[[int], object], indices: Iterable[int]) -> Iterable[float]:
    for i in indices:
        start = perf_counter()
        call(i)
        yield perf_counter() - start


def _record(seconds: list[float]) -> dict[str, Any]:
    timing = Timing((tuple(seconds),))
    return {"status": "ok", "error": None, **timing.to_json()}
