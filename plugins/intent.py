"""Intent classification with two to hundreds of intents, and detection of texts out of scope.

Texts with the label `oos` are out of scope. `oos` is not a label of the adapter. From such texts in train, the
adapter learns to predict the uniform distribution. Such texts in dev set the threshold: a text with a lower
in-scope score is out of scope. Without such texts in dev, or with few texts in scope, there is no threshold, and no
text is answered `oos`.

Option: `oos=auto` (default) as above; `oos=off`: no threshold.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from onetrunk.core.tasks import (
    Example,
    JSONObject,
    Labels,
    TaskNote,
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
"""The label of texts out of scope, in data and in predictions."""
OUT = -1
"""The number that `targets` returns for a text out of scope."""
SCORE = "cross_entropy_from_uniform"
"""The name of `in_scope_score`, stored with each threshold, because a threshold is valid for one score only."""
_ALSO_OOS = frozenset({"oos", "ood", "outofscope", "outofdomain", "nlufallback"})
"""What others call `OOS`, in lower case and without punctuation."""
_SPELLINGS_SHOWN = 5
_ONE_IN = 50
"""The threshold may reject one in this number of in-scope dev texts (2 %). Fewer texts give no threshold."""


def learn_labels(examples: Sequence[Example]) -> Labels:
    """Return the intents of the examples, sorted. Raises ValueError if there are fewer than two."""
    found = sorted({example.target for example in examples} - {None, OOS})
    if len(found) < 2:
        names = ", ".join(found) or "none"
        raise ValueError(
            f"expected at least two intents besides {OOS!r} in the training data, found: {names}; add rows with "
            "another intent"
        )
    return tuple(found)


def notes(examples: Sequence[Example]) -> list[TaskNote]:
    """Return a note on labels such as `out_of_scope` and `OOS`, which are learnt as intents."""
    found = [example for example in examples if _means_oos(example.target)]
    if not found:
        return []
    names = ", ".join(sorted({repr(example.target) for example in found})[:_SPELLINGS_SHOWN])
    rows = "1 row has" if len(found) == 1 else f"{len(found)} rows have"
    message = (
        f"{rows} the label {names}, which is an intent like any other; name it {OOS!r} if it is out of scope"
    )
    return [TaskNote("oos-spelling", message, len(found), found[0].where)]


def _means_oos(label: object) -> bool:
    if not isinstance(label, str) or label == OOS:
        return False
    return re.sub(r"[\W_]+", "", label.casefold()) in _ALSO_OOS


def targets(example: Example, labels: Labels) -> list[int]:
    """Return the index of the intent, or `OUT` for `oos`. Raises UnknownLabel; ValueError without an intent."""
    return [OUT if example.target == OOS else label_index(example, labels)]


def loss(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean cross-entropy, a scalar tensor.

    The target of a text in scope is its label. The target of a text out of scope is the uniform distribution.

    logits: (texts, labels).
    targets: (texts,), label indices, `OUT` or `IGNORE`.
    weights: (labels,), the weight of the texts with each label; None for equal weights. A text out of scope always
        has the weight 1.
    """
    outside = logits[targets == OUT]
    if not len(outside):
        return cross_entropy(logits, targets, weights)
    inside, gold = logits[targets != OUT], targets[targets != OUT]
    weight = total_weight(gold, weights)
    from_uniform = (outside.logsumexp(1) - outside.mean(1)).sum()
    return (cross_entropy(inside, gold, weights) * weight + from_uniform) / (weight + len(outside))


def in_scope_score(logits: np.ndarray) -> np.ndarray:
    """Return the in-scope score of each text, (texts,). It is higher for texts in scope.

    The score is the cross-entropy of the prediction relative to the uniform distribution. Training minimizes this
    number for texts out of scope. It is at least the logarithm of the number of labels. Unlike the energy score, it
    does not change if a constant is added to all logits; training does not determine such a constant.

    logits: (texts, labels). Labels that the adapter lacks, with logits of minus infinity, do not count.
    """
    from onetrunk.core.tasks.metrics import log_softmax

    logs = log_softmax(logits)
    score: np.ndarray = -logs.mean(axis=-1, where=logs > -math.inf)
    return score


def calibrate(examples: Sequence[Example], logits: Sequence[np.ndarray], labels: Labels) -> JSONObject:
    """Return {"threshold", "score", "rule"}: a text with a score below the threshold is out of scope.

    score, rule: the name of the score, and how the threshold was chosen.
    The threshold rejects as many `oos` examples as possible, while at most one in-scope text in fifty is predicted
    correctly but rejected. Of equally good thresholds, it is one that rejects the fewest in-scope texts. Without
    `oos` examples, or with fewer than fifty in scope, the result is {"note"}: every text is in scope.
    """
    gold = [targets(example, labels)[0] for example in examples]
    scores = [float(in_scope_score(rows)[0]) for rows in logits]
    inside = sorted(score for score, index in zip(scores, gold, strict=True) if index != OUT)
    outside = sorted(score for score, index in zip(scores, gold, strict=True) if index == OUT)
    if not outside or len(inside) < _ONE_IN:
        return {"note": _why_no_threshold(len(inside), len(outside))}
    right = sorted(
        score
        for score, rows, index in zip(scores, logits, gold, strict=True)
        if index != OUT and best_index(rows) == index
    )
    threshold = _best_threshold(inside, right, outside)
    rule = "highest recall of the oos rows in dev that costs at most 2 points of in-scope accuracy"
    return {"threshold": threshold, "score": SCORE, "rule": rule}


def _why_no_threshold(inside: int, outside: int) -> str:
    """Return the note on a dev set of `inside` rows in scope and `outside` rows out of scope."""
    lacks = f"dev has no rows with the label {OOS!r}"
    remedy = f"to detect such texts, add rows with the label {OOS!r} to train and dev"
    if outside:
        lacks = f"dev has {inside} rows in scope and {outside} with the label {OOS!r}"
        remedy = f"a threshold needs at least {_ONE_IN} rows in scope; give a larger dev file with --dev"
    return f"no text will be answered {OOS!r}: {lacks}; {remedy}, or give --set oos=off"


def _best_threshold(inside: list[float], right: list[float], outside: list[float]) -> float:
    """Return the threshold. The arguments are sorted scores: in scope, in scope and correct, out of scope."""
    budget = len(inside) // _ONE_IN
    limit = right[budget] if budget < len(right) else inside[-1]
    found = bisect_left(outside, limit)
    if not found:
        return limit
    below = outside[found - 1]
    above = min(score for score in [*inside, *outside, limit] if score > below)
    return (below + above) / 2


def decode(_example: Example, logits: np.ndarray, labels: Labels, settings: JSONObject) -> JSONObject:
    """Return {"label", "score", "scores", "in_scope"} and, for a text out of scope, "nearest". logits: (1, labels).

    label: the best intent, or `oos` for a text out of scope.
    score: of the label: the probability of the best intent, or the confidence that the text is out of scope. This
        is 0.5 at the threshold and rises to 1 below it; it is not a probability.
    scores: {intent: probability}, in descending order.
    in_scope: whether the in-scope score reaches the threshold; True without a threshold.
    nearest: {"label", "score"} of the best intent.
    """
    from onetrunk.core.tasks.metrics import softmax

    probabilities = softmax(logits)[0].tolist()
    best = {"label": labels[best_index(logits)], "score": probabilities[best_index(logits)]}
    ranked = sorted(range(len(labels)), key=lambda i: -probabilities[i])
    scores = {labels[i]: probabilities[i] for i in ranked}
    if _in_scope(logits, settings):
        return {**best, "scores": scores, "in_scope": True}
    confidence = 1 / (1 + math.exp(float(in_scope_score(logits)[0]) - settings["threshold"]))
    return {"label": OOS, "score": confidence, "scores": scores, "in_scope": False, "nearest": best}


def evaluate(
    examples: Sequence[Example], logits: Sequence[np.ndarray], labels: Labels, settings: JSONObject
) -> JSONObject:
    """Return accuracy, macro_f1 and per_label of the in-scope texts, and oos_rows (the number of `oos` texts).

    These do not depend on the threshold. With a threshold the result also has in_scope_accuracy (the share of
    in-scope texts that are accepted and predicted correctly), oos_recall and oos_precision. A metric is None if its
    denominator is 0; oos_precision is also None without `oos` texts.
    """
    from onetrunk.core.tasks.metrics import accuracy, macro_f1, per_label, ratio

    pairs = [
        (targets(example, labels)[0], best_index(rows))
        for example, rows in zip(examples, logits, strict=True)
    ]
    gold = [right for right, _ in pairs if right != OUT]
    predicted = [best for right, best in pairs if right != OUT]
    metrics: JSONObject = {
        "accuracy": accuracy(gold, predicted),
        "macro_f1": macro_f1(gold, predicted),
        "oos_rows": len(pairs) - len(gold),
    }
    if settings:
        accepted = [_in_scope(rows, settings) for rows in logits]
        judged = list(zip(pairs, accepted, strict=True))
        inside = [accept and right == best for (right, best), accept in judged if right != OUT]
        outside = [not accept for (right, _), accept in judged if right == OUT]
        rejected = len(accepted) - sum(accepted)
        metrics |= {
            "in_scope_accuracy": ratio(sum(inside), len(inside)),
            "oos_recall": ratio(sum(outside), len(outside)),
            "oos_precision": ratio(sum(outside), rejected) if outside else None,
        }
    return {**metrics, "per_label": per_label(gold, predicted, labels)}


def _in_scope(logits: np.ndarray, settings: JSONObject) -> bool:
    if not settings:
        return True
    if settings["score"] != SCORE:
        raise ValueError(
            f"the threshold is for the score {settings['score']!r}, but this plugin computes {SCORE!r}; "
            "train the adapter again, or install the version of the plugin that trained it"
        )
    return bool(in_scope_score(logits)[0] >= settings["threshold"])


def configure(options: Mapping[str, str]) -> TaskSpec:
    """Return the task with `options`. Raises ValueError for an unknown option or value."""
    value = options.get("oos", "auto")
    if unknown := sorted(set(options) - {"oos"}):
        raise ValueError(f"unknown option {unknown[0]!r}; known: oos")
    if value not in ("auto", "off"):
        raise ValueError(f"the option 'oos' is {value!r}; expected auto or off")
    return SPEC if value == "auto" else replace(SPEC, calibrate=None)


SPEC = TaskSpec(
    name="intent",
    summary="one of many intents per text, or out of scope",
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
    notes=notes,
    configure=configure,
)


@hookimpl
def tasks() -> list[TaskSpec]:
    """Return the task."""
    return [SPEC]
