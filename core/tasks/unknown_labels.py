"""Labels of dev and test data that an adapter lacks: their units have no target, and count as missed.

The train split of ATIS, for example, lacks three labels of its test split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from onetrunk.core.tasks.guarded_calls import json_of, targets_of
from onetrunk.core.tasks.records import IGNORE, Example, JSONObject, Labels, Targets, UnknownLabel
from onetrunk.core.tasks.spec import TaskSpec

if TYPE_CHECKING:
    import numpy as np


def known_targets(
    spec: TaskSpec, example: Example, labels: Labels, before: Targets = ()
) -> tuple[Targets, Labels]:
    """Return the targets of `example`, and its labels that are not in `labels`.

    A unit with an unknown label has the target `IGNORE`. If a text has one target per label, as in multi-label
    classification, those of the unknown labels are left out.
    before: see `targets_of`. Raises the exceptions of `targets_of`, except UnknownLabel.
    """
    every = labels
    while True:
        try:
            targets = targets_of(spec, example, every, before)
        except UnknownLabel as fault:
            new = tuple(label for label in fault.labels if label not in every)
            if not new:  # the task does not accept its own label
                raise
            every += new
        else:
            break
    if every == labels:
        return targets, ()
    unknown = every[len(labels) :]
    if len(targets) == len(every) and spec.units(example) == 1:
        return targets[: len(labels)], unknown
    return tuple(int(target) if target < len(labels) else IGNORE for target in targets), unknown


def task_metrics(
    spec: TaskSpec,
    examples: Sequence[Example],
    logits: Sequence[np.ndarray],
    labels: Labels,
    settings: JSONObject,
    unknown: Mapping[int, Labels],
) -> JSONObject:
    """Return the metrics of the task on `examples`.

    unknown: the labels that are not in `labels`, by index of the example. `evaluate` gets them after `labels`, with
        logits of minus infinity, so that they are never predicted, and count as missed.
    Raises TaskSpecError if the code of the task raises or does not return JSON.
    """
    more = tuple(dict.fromkeys(chain.from_iterable(unknown.values())))
    if more:
        import numpy as np

        width = ((0, 0), (0, len(more)))
        logits = [np.pad(rows, width, constant_values=-np.inf) for rows in logits]
    return json_of(spec, "evaluate", examples, logits, labels + more, settings)
