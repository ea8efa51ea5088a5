"""Changes of a store, and what it shows after them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from onetrunk.adapters.store.store import Store, StoredVersion

Write = Callable[[Path], object]


def refs(versions: list[StoredVersion]) -> list[str]:
    return [each.ref for each in versions]


def staged(store: Store) -> list[Path]:
    return list((store.root / ".staging").iterdir())


def add(store: Store, copy_sample: Write, *names: str) -> None:
    for name in names:
        store.add(name, copy_sample)
