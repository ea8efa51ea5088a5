"""Text classification with one label per text, such as sentiment."""

from __future__ import annotations

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
)

if TYPE_CHECKING:
    import numpy as np


def learn_labels(examples: Sequence[Example]) -> Labels:
    """Return the labels of the examples, sorted. Raises ValueError if there are fewer than two."""
    found = sorted({example.target for example in examples if example.target is not None})
    if len(found) < 2:
        raise ValueError(
            f"expected at least two labels in the training data, found: {', '.join(found) or 'none'}; "
            "add rows with another label"
        )
    return tuple(found)


def targets(example: Example, labels: Labels) -> list[int]:
    """Return the index of the label of `example`. Raises ValueError for a missing or an unknown label."""
    return [label_index(example, labels)]


def decode(_example: Example, logits: np.ndarray, labels: Labels, _settings: JSONObject) -> JSONObject:
    """Return {"label", "score": its probability, "scores": {label: probability}}. logits: (1, labels)."""
    from onetrunk.core.tasks.metrics import softmax

    scores = dict(zip(labels, softmax(logits)[0].tolist(), strict=True))
    best = labels[best_index(logits)]
    return {"label": best, "score": scores[best], "scores": scores}


def evaluate(
    examples: Sequence[Example], logits: Sequence[np.ndarray], labels: Labels, _settings: JSONObject
) -> JSONObject:
    """Return accuracy, macro_f1, per_label ({label: metrics}) and confusion (see `metrics.confusion`)."""
    from onetrunk.core.tasks.metrics import accuracy, confusion, macro_f1, per_label

    gold = [label_index(example, labels) for example in examples]
    predicted = [best_index(rows) for rows in logits]
    return {
        "accuracy": accuracy(gold, predicted),
        "macro_f1": macro_f1(gold, predicted),
        "per_label": per_label(gold, predicted, labels),
        "confusion": confusion(gold, predicted, labels),
    }


SPEC = TaskSpec(
    name="sentiment",
    summary="one label per text, such as positive or negative",
    level="text",
    read=labelled_text,
    labels=learn_labels,
    targets=targets,
    make_head=make_text_head,
    loss=cross_entropy,
    decode=decode,
    evaluate=evaluate,
    primary="accuracy",
)


@hookimpl
def tasks() -> list[TaskSpec]:
    """Return the task."""
    return [SPEC]
