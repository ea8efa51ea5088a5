"""Viterbi decoding: the most probable valid IOB2 tags for the logits of words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from onetrunk.core.tasks.metrics import log_softmax


def best_iob2(logits: npt.NDArray[np.floating], labels: Sequence[str]) -> list[str]:
    """Return the most probable valid sequence of tags, one tag per word (Viterbi 1967).

    A sequence is valid if each I-X follows a B-X or an I-X. Its probability is the product of the probabilities of
    its tags. Of equally probable tags, the one with the lower label index is taken.

    logits: (words, labels).
    labels: O, B-X and I-X for any types X, in any order.
    """
    best = [labels[i] for i in logits.argmax(axis=-1).tolist()]
    return best if is_valid(best) else [labels[i] for i in _viterbi(log_softmax(logits), labels)]


def is_valid(tags: Sequence[str]) -> bool:
    """Whether each I-X of `tags` follows a B-X or an I-X."""
    return all(not tag.startswith("I-") or before[2:] == tag[2:] for before, tag in pairwise(["O", *tags]))


def _viterbi(scores: npt.NDArray[np.float64], labels: Sequence[str]) -> list[int]:
    """Return the label indices of the best valid path. scores: (words, labels), with at least one word."""
    every = np.arange(len(labels))
    inside = np.array([label.startswith("I-") for label in labels])
    index = {label: i for i, label in enumerate(labels)}
    # An I-X can follow B-X or I-X only; any other tag can follow the tag with the best score.
    begin = np.array([index.get(f"B-{label[2:]}", i) if inside[i] else i for i, label in enumerate(labels)])
    total = np.where(inside, -np.inf, scores[0])
    steps = []
    for row in scores[1:]:
        own = np.where(total[begin] >= total, begin, every)
        steps.append(np.where(inside, own, total.argmax()))
        total = total[steps[-1]] + row
    path = [int(total.argmax())]
    for before in reversed(steps):
        path.append(int(before[path[-1]]))
    return path[::-1]
