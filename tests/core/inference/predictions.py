"""Tasks of the stored adapters, and a comparison of predictions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from onetrunk.core.tasks.prediction import Prediction

Texts = Callable[[int], list[str]]
TASKS = ("ner", "sentiment", "intent")


def same(found: Prediction, expected: Prediction) -> bool:
    """Return whether predictions are equal, floats within 1e-5: logits of a text vary that much with its batch."""

    def close(a: Any, b: Any) -> bool:
        if isinstance(a, dict):
            return isinstance(b, dict) and a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
        if isinstance(a, list):
            return len(a) == len(b) and all(map(close, a, b))
        return math.isclose(a, b, abs_tol=1e-5) if isinstance(a, float) else bool(a == b)

    return close(found.to_json(), expected.to_json())
