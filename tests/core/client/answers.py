"""Responses of a test server, and the labels in a client's predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onetrunk.core.client import Prediction, Retries
from tests.peer import Asked, Said, lines

TOKEN = "a-token-of-32-characters-nobody-knows"
ONCE = Retries(tries=1)
Ask = Callable[..., Any]


def mood(label: str = "positive") -> dict[str, Any]:
    return {"adapter": "mood@prod", "version": "mood@2", "task": "sentiment", "label": label, "score": 0.5}


def result(*answers: Any) -> dict[str, Any]:
    return {"answers": list(answers)}


def echo(asked: Asked) -> Said:
    """Answer each line with its text as the label."""
    return lines(*(result(mood(each["text"])) for each in asked.lines))


def labels(answers: list[list[Prediction]]) -> list[str]:
    return [each.result["label"] for (each,) in answers]
