"""From the logits of words to IOB2 tags that are valid, for tasks that mark spans."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from onetrunk.core.tasks.metrics import log_softmax


def best_iob2(logits: npt.NDArray[np.floating], labels: Sequence[str]) -> list[str]:
    """Return the most probable of the valid sequences of tags, a tag a word (Viterbi 1967).

    A sequence is valid where each I-X follows a B-X or an I-X. Its probability is the product of its tags'. Of
    equally probable tags the earlier label is taken.

    logits: (words, labels); labels: O, B-X and I-X, in any order and of any types.
    """
    best = [labels[i] for i in logits.argmax(axis=-1).tolist()]
    return best if is_valid(best) else [labels[i] for i in _viterbi(log_softmax(logits), labels)]


def is_valid(tags: Sequence[str]) -> bool:
    """Whether each I-X of `tags` follows a B-X or an I-X."""
    return all(not tag.startswith("I-") or before[2:] == tag[2:] for before, tag in pairwise(["O", *tags]))


def _viterbi(scores: npt.NDArray[np.float64], labels: Sequence[str]) -> list[int]:
    """scores: (words, labels), at least one word."""
    every = np.arange(len(labels))
    inside = np.array([label.startswith("I-") for label in labels])
    index = {label: i for i, label in enumerate(labels)}
    # Before an I-X stands a B-X or another I-X; before any other tag whatever scores best.
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
