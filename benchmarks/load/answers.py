"""Whether one answer is another: the numbers within a tolerance, all else equal. Loads nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

TOLERANCE = 1e-3
"""Largest difference of a score from the right one, in fp32."""


def distance(found: Any, right: Any) -> float:
    """Return the largest difference of the numbers in two JSON values; infinity where anything else differs."""
    if isinstance(found, dict) and isinstance(right, dict):
        if found.keys() != right.keys():
            return math.inf
        return max((distance(found[key], right[key]) for key in found), default=0.0)
    if isinstance(found, list) and isinstance(right, list):
        if len(found) != len(right):
            return math.inf
        return max(map(distance, found, right), default=0.0)
    if isinstance(found, float) and isinstance(right, float):
        return abs(found - right) if math.isfinite(found) else math.inf
    return 0.0 if type(found) is type(right) and found == right else math.inf


def decision(record: Mapping[str, Any]) -> Any:
    """Return what a record decides, without any score: the label, or the entities."""
    if "entities" in record:
        return [(entity["start"], entity["end"], entity["label"]) for entity in record["entities"]]
    return record.get("label")


def own_part(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer of a service without what names the adapter: the task's own record."""
    return {key: value for key, value in answer.items() if key not in ("adapter", "version", "task")}
