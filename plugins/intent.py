"""Intents, from two to hundreds, and texts that are none of them.

Rows labelled `oos` are out of scope. `oos` is never one of the labels: in the training data such rows pull
the prediction towards the uniform distribution, and on dev they set the threshold below which a text is out
of scope.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

from onetrunk.core.tasks import (
    Example,
    JSONObject,
    Labels,
    TaskSpec,
    best_index,
    cross_entropy,
    hookimpl,
    label_index,
    labelled_text,
    make_text_head,
    total_weight,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

OOS = "oos"
"""The label of rows that are out of scope, in the data and in predictions."""
OUT = -1
"""Their target."""
SCORE = "cross_entropy_from_uniform"
"""Name of `in_scope_score`, kept with each threshold: a threshold means nothing under another score."""
_ONE_IN = 50  # the threshold may cost one in-scope dev text in fifty, 2 points


def learn_labels(examples: Sequence[Example]) -> Labels:
    """Return the intents in the data, sorted. Raises ValueError when there are fewer than two."""
    found = sorted({example.target for example in examples} - {None, OOS})
    if len(found) < 2:
        names = ", ".join(found) or "none"
        raise ValueError(
            f"expected at least two intents besides {OOS!r} in the training data, found: {names}"
        )
    return tuple(found)


def targets(example: Example, labels: Labels) -> list[int]:
    """Return the index of the intent, `OUT` for `oos`. Raises ValueError without one or on an unknown one."""
    return [OUT if example.target == OOS else label_index(example, labels)]


def loss(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean cross-entropy, to the label in scope and to the uniform distribution out of it.

    logits: (texts, labels); targets: (texts,), `OUT` and `IGNORE` allowed; weights: (labels,) or None. A text
    out of scope counts 1. Returns a scalar.
    """
    outside = logits[targets == OUT]
    if not len(outside):
        return cross_entropy(logits, targets, weights)
    inside, gold = logits[targets != OUT], targets[targets != OUT]
    weight = total_weight(gold, weights)
    from_uniform = (outside.logsumexp(1) - outside.mean(1)).sum()
    return (cross_entropy(inside, gold, weights) * weight + from_uniform) / (weight + len(outside))


def in_scope_score(logits: np.ndarray) -> np.ndarray:
    """Return how far each text is from "could be anything": (texts,), log(labels) and more.

    logits: (texts, labels). The cross-entropy of the prediction from the uniform distribution: what training
    makes small for `oos` rows. Unlike the energy, it stays the same when a constant is added to all logits,
    which training leaves free.
    """
    from onetrunk.core.tasks.metrics import log_softmax

    score: np.ndarray = -log_softmax(logits).mean(axis=-1)
    return score


def calibrate(examples: Sequence[Example], logits: Sequence[np.ndarray], labels: Labels) -> JSONObject:
    """Return {"threshold", "score", "rule"}: a text with a score below the threshold is out of scope.

    With `oos` rows: the threshold that finds most of them while at most one in-scope text in fifty is right
    and rejected; among such, one that rejects fewest in-scope texts. Else one in-scope text in fifty falls
    below. Without any row in scope there is nothing to calibrate on: {}, and every text is in scope.
    """
    gold = [targets(example, labels)[0] for example in examples]
    scores = [_score(rows) for rows in logits]
    inside = sorted(score for score, index in zip(scores, gold, strict=True) if index != OUT)
    if not inside:
        return {}
    outside = sorted(score for score, index in zip(scores, gold, strict=True) if index == OUT)
    if not outside:
        rule = "no oos rows in dev: 2 % of the in-scope dev texts fall below"
        return _settings(inside[len(inside) // _ONE_IN], rule)
    right = sorted(
        score
        for score, rows, index in zip(scores, logits, gold, strict=True)
        if index != OUT and best_index(rows) == index
    )
    rule = "highest recall of the oos rows in dev that costs at most 2 points of in-scope accuracy"
    return _settings(_best_threshold(inside, right, outside), rule)


def _best_threshold(inside: list[float], right: list[float], outside: list[float]) -> float:
    """Return the threshold from sorted scores: all in scope, the right ones among them, all out of scope."""
    budget = len(inside) // _ONE_IN
    limit = right[budget] if budget < len(right) else inside[-1]
    found = bisect_left(outside, limit)
    if not found:
        return limit
    below = outside[found - 1]
    above = min(score for score in [*inside, *outside, limit] if score > below)
    return (below + above) / 2


def _settings(threshold: float, rule: str) -> JSONObject:
    return {"threshold": threshold, "score": SCORE, "rule": rule}


def decode(_example: Example, logits: np.ndarray, labels: Labels, settings: JSONObject) -> JSONObject:
    """Return {"label", "score", "scores", "in_scope"}; logits: (1, labels).

    label: the best intent, or `oos` when the text is out of scope; score: the probability of the best intent
    in either case; scores: {intent: probability} from the best down. Without a threshold every text is in
    scope.
    """
    from onetrunk.core.tasks.metrics import softmax

    probabilities = softmax(logits)[0].tolist()
    best, in_scope = best_index(logits), _in_scope(logits, settings)
    ranked = sorted(range(len(labels)), key=lambda i: -probabilities[i])
    return {
        "label": labels[best] if in_scope else OOS,
        "score": probabilities[best],
        "scores": {labels[i]: probabilities[i] for i in ranked},
        "in_scope": in_scope,
    }


def evaluate(
    examples: Sequence[Example], logits: Sequence[np.ndarray], labels: Labels, settings: JSONObject
) -> JSONObject:
    """Return accuracy, macro_f1 and per_label of the in-scope rows without a threshold, and oos_rows.

    With a threshold also in_scope_accuracy (in-scope rows that are right and accepted), oos_recall and
    oos_precision. A figure that has no rows to be taken of is None, and without oos rows both of theirs are.
    """
    from onetrunk.core.tasks.metrics import accuracy, confusion, macro_f1, per_label

    pairs = [
        (targets(example, labels)[0], best_index(rows))
        for example, rows in zip(examples, logits, strict=True)
    ]
    gold = [right for right, _ in pairs if right != OUT]
    predicted = [best for right, best in pairs if right != OUT]
    table = confusion(gold, predicted, len(labels))
    figures: JSONObject = {
        "accuracy": accuracy(gold, predicted),
        "macro_f1": macro_f1(table),
        "oos_rows": len(pairs) - len(gold),
    }
    if settings:
        accepted = [_in_scope(rows, settings) for rows in logits]
        figures |= _threshold_figures(pairs, accepted)
    return {**figures, "per_label": per_label(table, labels)}


def _threshold_figures(pairs: Sequence[tuple[int, int]], accepted: Sequence[bool]) -> JSONObject:
    """Return the figures that depend on the threshold; pairs: gold (or `OUT`) and best label of each text."""
    from onetrunk.core.tasks.metrics import ratio

    judged = list(zip(pairs, accepted, strict=True))
    inside = [accept and gold == best for (gold, best), accept in judged if gold != OUT]
    outside = [not accept for (gold, _), accept in judged if gold == OUT]
    rejected = len(accepted) - sum(accepted)
    return {
        "in_scope_accuracy": ratio(sum(inside), len(inside)),
        "oos_recall": ratio(sum(outside), len(outside)),
        "oos_precision": ratio(sum(outside), rejected) if outside else None,
    }


def _score(logits: np.ndarray) -> float:
    return float(in_scope_score(logits)[0])


def _in_scope(logits: np.ndarray, settings: JSONObject) -> bool:
    if not settings:
        return True
    if settings["score"] != SCORE:
        raise ValueError(
            f"the threshold was set for the score {settings['score']!r}, this plugin computes {SCORE!r}; "
            "train the adapter again, or install the plugin's version it was trained with"
        )
    return bool(_score(logits) >= settings["threshold"])


SPEC = TaskSpec(
    name="intent",
    summary="one of many intents a text, or out of scope",
    level="text",
    read=labelled_text,
    labels=learn_labels,
    targets=targets,
    make_head=make_text_head,
    loss=loss,
    decode=decode,
    evaluate=evaluate,
    primary="accuracy",
    calibrate=calibrate,
)


@hookimpl
def tasks() -> list[TaskSpec]:
    """Give the task."""
    return [SPEC]
