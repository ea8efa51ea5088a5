"""Classification metrics in numpy, for the functions `evaluate` and `decode` of a task.

Gold and predicted labels are indices. A metric is None if its denominator is 0, such as the precision of a label
that is never predicted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onetrunk.core.tasks.records import JSONObject

Floats = npt.NDArray[np.float64]
Indices = Sequence[int] | npt.NDArray[np.int64]

DENSE_LABELS = 200
"""The most labels of a confusion matrix; with more labels, it is a list of pairs."""
MOST_PAIRS = 1000
"""The most pairs of a confusion matrix that is a list of pairs."""
MOST_LABELS = 2000
"""The most labels of `per_label`: the metrics of an adapter are stored in `task.json`, whose size is limited."""


def softmax(logits: npt.NDArray[np.floating]) -> Floats:
    """Return the probabilities over the last axis, in float64 and in the shape of `logits`."""
    probabilities: Floats = np.exp(log_softmax(logits))
    return probabilities


def log_softmax(logits: npt.NDArray[np.floating]) -> Floats:
    """Return the logarithm of `softmax`, in float64 and in the shape of `logits`."""
    wide = np.asarray(logits, dtype=np.float64)
    wide = wide - wide.max(axis=-1, keepdims=True, initial=-np.inf)
    logs: Floats = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return logs


def accuracy(gold: Indices, predicted: Indices) -> float | None:
    """Return the share of correct predictions, from 0 to 1; None without predictions.

    Raises ValueError for unequal lengths.
    """
    pairs = list(zip(gold, predicted, strict=True))
    return ratio(sum(int(right == guess) for right, guess in pairs), len(pairs))


def confusion(gold: Indices, predicted: Indices, labels: Sequence[str]) -> JSONObject:
    """Return {labels, rows}: the rows of the matrix are gold labels, its columns are predictions.

    With more than `DENSE_LABELS` labels the result is {pairs}: [gold label, predicted label, count] of the wrong
    predictions, the most frequent `MOST_PAIRS` pairs first.
    Raises ValueError for unequal lengths, IndexError for a label outside 0..labels - 1.
    """
    if len(gold) != len(predicted):
        raise ValueError(
            f"{len(gold)} gold labels, but {len(predicted)} predicted labels; expected equal numbers"
        )
    if len(labels) <= DENSE_LABELS:
        table = np.zeros((len(labels), len(labels)), dtype=np.int64)
        np.add.at(table, (np.asarray(gold, dtype=np.int64), np.asarray(predicted, dtype=np.int64)), 1)
        return {"labels": list(labels), "rows": table.tolist()}
    wrong = Counter((right, guess) for right, guess in zip(gold, predicted, strict=True) if right != guess)
    ranked = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:MOST_PAIRS]
    return {"pairs": [[labels[right], labels[guess], count] for (right, guess), count in ranked]}


def precision_recall_f1(hits: int, predicted: int, actual: int) -> dict[str, float | None]:
    """Return {precision, recall, f1}.

    hits: the number of true positives.
    predicted, actual: the numbers of predicted and of gold items (TP + FP, TP + FN).
    """
    return {
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, actual),
        "f1": ratio(2 * hits, predicted + actual),
    }


def per_label(gold: Indices, predicted: Indices, labels: Sequence[str]) -> dict[str, JSONObject]:
    """Return {label: {precision, recall, f1, support}}; support is the number of gold items with the label.

    With more than `MOST_LABELS` labels, those with the largest support are returned.
    """
    hits, found, actual = _counts(gold, predicted, len(labels))
    kept: Sequence[int] = range(len(labels))
    if len(labels) > MOST_LABELS:
        kept = sorted(sorted(kept, key=lambda i: -actual[i])[:MOST_LABELS])
    return {
        labels[i]: {**precision_recall_f1(hits[i], found[i], actual[i]), "support": actual[i]} for i in kept
    }


def macro_f1(gold: Indices, predicted: Indices) -> float | None:
    """Return the mean F1 over the labels that occur in `gold` or `predicted`; None if there are none."""
    counts = _counts(gold, predicted, 1 + max((*gold, *predicted), default=0))
    scores = [
        2 * hits / (found + actual) for hits, found, actual in zip(*counts, strict=True) if found + actual
    ]
    return sum(scores) / len(scores) if scores else None


def _counts(gold: Indices, predicted: Indices, labels: int) -> tuple[list[int], list[int], list[int]]:
    """Return for each label the number of right predictions, of predictions, and of gold items."""
    right = [label for label, guess in zip(gold, predicted, strict=True) if label == guess]
    hits, found, actual = (
        np.bincount(np.asarray(each, dtype=np.int64), minlength=labels).tolist()
        for each in (right, predicted, gold)
    )
    return hits, found, actual


def ratio(part: float, whole: float) -> float | None:
    """Return part / whole; None if whole is 0."""
    return part / whole if whole else None
