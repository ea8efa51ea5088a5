"""Checks that a task reads the logits of a plain PEFT adapter as the adapter was trained.

transformers trains a text classifier on one of three problems. In one of them, the labels exclude each other, and
only the differences of the logits count. In the other two, regression and several labels per text, each logit
counts by itself. The logits look the same, so a task for the wrong problem answers without an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.adapters.format.artifact import read_object
from onetrunk.core.errors import UsageError
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.interop.import_labels import MODEL_CONFIG
from onetrunk.core.tasks.guarded_calls import json_of

_BY_ITSELF = {
    "regression": "each logit is a value",
    "multi_label_classification": "a text can have several labels, and each logit is that of one label",
}
_SHIFTS = (-4.0, 4.0)
"""Numbers that are added to all logits. Labels that exclude each other keep their probabilities."""


def problem_type(folder: Path, base: Any, labels: int) -> tuple[str | None, str]:
    """Return transformers' `problem_type` of the adapter in `folder`, and where it was found.

    base: transformers' configuration of the backbone.
    labels: the number of logits. With one, transformers trains a regression if nothing else is said.
    None if neither the files nor the number of logits tell.
    """
    own = read_object(folder, MODEL_CONFIG).get("problem_type") if (folder / MODEL_CONFIG).exists() else None
    given = getattr(base, "problem_type", None)
    if own is not None:
        return str(own), f"{MODEL_CONFIG} says problem_type {own!r:.60}"
    if given is not None:
        return str(given), f"the backbone's config.json says problem_type {given!r:.60}"
    return ("regression", "it has one logit") if labels == 1 else (None, "")


def check_problem(
    adapter: Adapter, logits: Sequence[np.ndarray], problem: str | None, where: str, texts: Sequence[str]
) -> None:
    """Raise UsageError if the task ignores what each logit says by itself, but the adapter was trained on it.

    logits: those of the adapter for each of `texts`.
    problem, where: from `problem_type`.
    """
    single = len(adapter.labels) == 1
    if problem not in _BY_ITSELF and not single:
        return
    spec = adapter.spec
    for text, own in zip(texts, logits, strict=True):
        answers = [
            json_of(spec, "decode", spec.unlabelled(text), own + np.float32(shift), adapter.labels, {})
            for shift in (0.0, *_SHIFTS)
        ]
        if own.size and not all(_alike(answers[0], each) for each in answers[1:]):
            return
    meaning = _BY_ITSELF.get(str(problem), "it is the only one")
    raise UsageError(
        f"{where}: {meaning}; but the task {spec.name!r} only compares the logits of a text with each other"
        + (", so its score would always be 1" if single else "")
        + "; give a --task that reads each logit by itself, or train an adapter with `adapters train`"
    )


def _alike(first: object, second: object) -> bool:
    """Tell whether two JSON values are equal up to rounding."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_alike(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_alike, first, second))
    if isinstance(first, float) and isinstance(second, int | float):
        return math.isclose(first, second, rel_tol=1e-4, abs_tol=1e-4)
    return first == second
