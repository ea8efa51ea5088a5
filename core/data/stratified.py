"""A seeded, stratified draw of rows by their labels."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from onetrunk.core.tasks import Labels


def draw_stratified(labels: Sequence[Labels], fraction: float, seed: int) -> set[int]:
    """Return the rows to draw, about `fraction` of all and at least one where possible.

    labels: those of each row, distinct and sorted; the rows with the same ones are a stratum. The quotas of
    the strata are rounded to the total by largest remainders. Rows that are alone in their stratum are drawn
    together. Of every other stratum, and of every label, at least one row is left behind. The same labels,
    fraction and seed give the same rows on every platform.
    """
    left = Counter(label for row in labels for label in row)
    chosen: set[int] = set()
    for stratum, quota in _quotas(labels, left, fraction, seed):
        for row in stratum:
            if quota and all(left[label] > 1 for label in labels[row]):
                left.subtract(labels[row])
                chosen.add(row)
                quota -= 1
    return chosen


def _quotas(
    labels: Sequence[Labels], counts: Mapping[str, int], fraction: float, seed: int
) -> Iterator[tuple[list[int], int]]:
    """Yield each stratum, shuffled, and how many of its rows to draw."""
    strata = [(stratum, fraction * len(stratum), most) for stratum, most in _strata(labels, counts, seed)]
    total = min(max(1, round(fraction * len(labels))), len(labels) - 1)
    spare = total - sum(int(share) for _, share, _ in strata)
    # ties go by lot: in the order of labels they would favour the same ones with every seed
    ranked = sorted(strata, key=lambda item: (int(item[1]) - item[1], _lot(seed, item[0][0])))
    for rank, (stratum, share, most) in enumerate(ranked):
        yield stratum, min(int(share) + (rank < spare), most)


def _strata(
    labels: Sequence[Labels], counts: Mapping[str, int], seed: int
) -> Iterator[tuple[list[int], int]]:
    """Yield the rows of each stratum, shuffled, and the most that may be drawn from it."""
    groups: dict[Labels, list[int]] = defaultdict(list)
    for row in sorted(range(len(labels)), key=lambda row: _lot(seed, row)):
        groups[labels[row]].append(row)
    yield from ((rows, len(rows) - 1) for rows in groups.values() if len(rows) > 1)
    alone = [(key, rows[0]) for key, rows in groups.items() if len(rows) == 1]
    rare = [row for key, row in alone if all(counts[label] > 1 for label in key)]
    if rare:
        yield rare, len(rare)


def _lot(seed: int, row: int) -> bytes:
    # Not the random module: its shuffles may change between versions of Python.
    return hashlib.sha256(f"{seed}:{row}".encode()).digest()
