"""Batches by token budget: the cost of a packed batch is its number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch

POOL = 16
"""Training draws pools of texts, enough for this many batches, and sorts each pool by length."""


def by_budget(order: Sequence[int], tokens: Sequence[int], budget: int) -> list[list[int]]:
    """Cut a list of texts into batches of at most `budget` tokens; a longer text is a batch of its own.

    order: the list, as indices of texts.
    tokens: number of tokens of each text.
    """
    batches: list[list[int]] = []
    filled = budget
    for index in order:
        if filled + tokens[index] > budget:
            batches.append([])
            filled = 0
        batches[-1].append(index)
        filled += tokens[index]
    return batches


def evenly(order: Sequence[int], tokens: Sequence[int], parts: int) -> list[list[int]]:
    """Cut a list of texts into at most `parts` lists with about equal numbers of tokens.

    order, tokens: as for `by_budget`.
    """
    share = sum(tokens[index] for index in order) / parts
    runs: list[list[int]] = [[] for _ in range(parts)]
    before = 0
    for index in order:
        middle = before + tokens[index] / 2
        runs[min(parts - 1, int(middle / share))].append(index)
        before += tokens[index]
    return [run for run in runs if run]


def training_batches(tokens: Sequence[int], budget: int, generator: torch.Generator) -> list[list[int]]:
    """Return the batches of one epoch, in random order: indices of texts, those of similar lengths together."""
    order = torch.randperm(len(tokens), generator=generator).tolist()
    pool = max(1, POOL * budget * len(tokens) // max(1, sum(tokens)))
    pools = [order[start : start + pool] for start in range(0, len(order), pool)]
    batches = [
        batch
        for members in pools
        for batch in by_budget(sorted(members, key=tokens.__getitem__), tokens, budget)
    ]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def inference_batches(tokens: Sequence[int], budget: int, texts: Sequence[int]) -> list[list[int]]:
    """Return batches of requests (indices), the longest first: if memory is too small, the first batch fails.

    tokens: number of tokens of each request.
    texts: a number for each request, equal for equal texts. Equal texts share a batch if they fit in one.
    """
    order = sorted(range(len(tokens)), key=lambda i: (-tokens[i], texts[i]))
    same = [list(own) for _, own in groupby(order, key=texts.__getitem__)]
    pieces = [piece for own in same for piece in by_budget(own, tokens, budget)]
    sizes = [sum(tokens[i] for i in piece) for piece in pieces]
    batches = by_budget(range(len(pieces)), sizes, budget)
    return [[i for piece in batch for i in pieces[piece]] for batch in batches]
