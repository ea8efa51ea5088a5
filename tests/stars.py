"""A regression as a stranger may write it: how good a text is, a float."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from onetrunk.core.tasks import Example, HeadContext, JSONObject, Labels, Record, TaskSpec

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


def read(record: Record) -> Example:
    if not isinstance(record.get("text"), str):
        raise ValueError("expected a string under 'text'")
    return Example(str(record["text"]), record.get("stars"))


def targets(example: Example, labels: Labels) -> list[float]:
    if example.target is None:
        raise ValueError("the record has no stars")
    return [example.target]


def make_head(context: HeadContext) -> nn.Module:
    from onetrunk.core.tasks.heads import text_head

    return text_head(replace(context, pooling="mean"))


def squared_error(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    return (logits[:, 0] - targets).square().mean()


def decode(example: Example, logits: np.ndarray, labels: Labels, settings: JSONObject) -> JSONObject:
    return {"stars": float(logits[0, 0])}


def evaluate(
    examples: Sequence[Example], logits: Sequence[np.ndarray], labels: Labels, settings: JSONObject
) -> JSONObject:
    errors = [float(rows[0, 0]) - example.target for example, rows in zip(examples, logits, strict=True)]
    return {"negative_mse": -sum(error**2 for error in errors) / len(errors)}


STARS = TaskSpec(
    name="stars",
    summary="how good a text is",
    level="text",
    read=read,
    labels=("stars",),
    targets=targets,
    make_head=make_head,
    loss=squared_error,
    decode=decode,
    evaluate=evaluate,
    primary="negative_mse",
)
RECORDS: list[Record] = [
    {"text": f"{word} {thing}", "stars": stars}
    for thing in ("film", "book", "table")
    for word, stars in (("good", 0.9), ("bad", -0.7), ("my", 0.25), ("a", 0.5))
]
