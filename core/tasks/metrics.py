"""Classification metrics in numpy, for the functions `evaluate` and `decode` of a task.

Gold and predicted labels are indices. A metric is None if its denominator is 0, such as the precision of a label
that is never predicted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onetrunk.core.tasks.spec import JSONObject

Floats = npt.NDArray[np.float64]
Indices = Sequence[int] | npt.NDArray[np.int64]


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


def confusion(gold: Indices, predicted: Indices, labels: int) -> npt.NDArray[np.int64]:
    """Return the confusion matrix, (labels, labels): rows are gold labels, columns are predictions.

    Raises ValueError for unequal lengths, IndexError for a label outside 0..labels - 1.
    """
    if len(gold) != len(predicted):
        raise ValueError(
            f"{len(gold)} gold labels, but {len(predicted)} predicted labels; expected equal numbers"
        )
    table = np.zeros((labels, labels), dtype=np.int64)
    np.add.at(table, (np.asarray(gold, dtype=np.int64), np.asarray(predicted, dtype=np.int64)), 1)
    return table


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


def per_label(table: npt.NDArray[np.int64], labels: Sequence[str]) -> dict[str, JSONObject]:
    """Return {label: {precision, recall, f1, support}}; support is the number of gold items with the label.

    table: (labels, labels), from `confusion`.
    """
    predicted, actual = table.sum(axis=0).tolist(), table.sum(axis=1).tolist()
    hits = table.diagonal().tolist()
    return {
        label: {**precision_recall_f1(hits[i], predicted[i], actual[i]), "support": actual[i]}
        for i, label in enumerate(labels)
    }


def macro_f1(table: npt.NDArray[np.int64]) -> float | None:
    """Return the mean F1 over the labels that occur in the gold labels or in the predictions; None without labels.

    table: (labels, labels), from `confusion`.
    """
    seen = table.sum(axis=0) + table.sum(axis=1)
    scores = 2 * table.diagonal()[seen > 0] / seen[seen > 0]
    return float(scores.mean()) if len(scores) else None


def ratio(part: float, whole: float) -> float | None:
    """Return part / whole; None if whole is 0."""
    return part / whole if whole else None
