"""Seeded stratified sampling of rows by their labels."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from onetrunk.core.tasks import Labels


def draw_stratified(
    labels: Sequence[Labels], fraction: float, seed: int, keys: Sequence[int] | None = None
) -> set[int]:
    """Return the indices of the sampled rows: about `fraction` of all rows, and at least one if possible.

    Rows with the same labels are a stratum. Each stratum gets its share of the sample, rounded by largest
    remainders. All strata of a single row are sampled together, as one stratum. At least one row of every other
    stratum, and of every label, is not sampled. The result is the same on every platform.

    labels: the labels of each row, distinct and sorted.
    keys: a distinct number of each row, which decides about its order; by default its index.
    """
    random = [_random_key(seed, key) for key in (range(len(labels)) if keys is None else keys)]
    left = Counter(label for row in labels for label in row)
    chosen: set[int] = set()
    for stratum, quota in _quotas(labels, left, fraction, random):
        for row in stratum:
            if quota and all(left[label] > 1 for label in labels[row]):
                left.subtract(labels[row])
                chosen.add(row)
                quota -= 1
    return chosen


def _quotas(
    labels: Sequence[Labels], counts: Mapping[str, int], fraction: float, random: Sequence[bytes]
) -> Iterator[tuple[list[int], int]]:
    """Yield the shuffled rows of each stratum, and the number of rows to sample from it."""
    strata = [(stratum, fraction * len(stratum), most) for stratum, most in _strata(labels, counts, random)]
    total = min(max(1, round(fraction * len(labels))), len(labels) - 1)
    spare = total - sum(int(share) for _, share, _ in strata)
    # Ties are broken at random; the order of labels would prefer the same labels with every seed.
    ranked = sorted(strata, key=lambda item: (int(item[1]) - item[1], random[item[0][0]]))
    for rank, (stratum, share, most) in enumerate(ranked):
        yield stratum, min(int(share) + (rank < spare), most)


def _strata(
    labels: Sequence[Labels], counts: Mapping[str, int], random: Sequence[bytes]
) -> Iterator[tuple[list[int], int]]:
    """Yield the shuffled rows of each stratum, and the largest number of rows to sample from it."""
    groups: dict[Labels, list[int]] = defaultdict(list)
    for row in sorted(range(len(labels)), key=random.__getitem__):
        groups[labels[row]].append(row)
    yield from ((rows, len(rows) - 1) for rows in groups.values() if len(rows) > 1)
    alone = [(key, rows[0]) for key, rows in groups.items() if len(rows) == 1]
    rare = [row for key, row in alone if all(counts[label] > 1 for label in key)]
    if rare:
        yield rare, len(rare)


def _random_key(seed: int, row: int) -> bytes:
    # The shuffles of the module random can change between versions of Python.
    return hashlib.sha256(f"{seed}:{row}".encode()).digest()
