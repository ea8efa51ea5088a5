"""A text-level and a word-level task, and functions that write data files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onetrunk.core.data.dataset import Dataset, content_sha256
from onetrunk.core.tasks import Example, HeadContext, JSONObject, Labels, Record, TaskSpec

if TYPE_CHECKING:
    from torch import Tensor, nn


def read_topic(record: Record) -> Example:
    if "text" not in record:
        raise ValueError(f"no 'text'; the record has {', '.join(record) or 'nothing'}")
    return Example(record["text"], record.get("label"))


def read_words(record: Record) -> Example:
    starts = [0]
    for word in record["words"]:
        starts.append(starts[-1] + len(word) + 1)
    spans = [(start, start + len(word)) for start, word in zip(starts, record["words"], strict=False)]
    return Example(" ".join(record["words"]), record["tags"], tuple(spans))


def topic_target(example: Example, labels: Labels) -> Sequence[int]:
    if example.target not in labels:
        raise ValueError(f"unknown label {example.target!r}; known: {', '.join(labels)}")
    return [labels.index(example.target)]


def word_targets(example: Example, labels: Labels) -> Sequence[int]:
    return [labels.index(tag) for tag in example.target]


def linear_head(context: HeadContext) -> nn.Module:
    from torch import nn

    return nn.Linear(context.hidden_size, len(context.labels))


def mean_square(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    return (logits - targets[:, None]).square().mean()


def whole_text(text: str) -> tuple[tuple[int, int], ...]:
    return ((0, len(text)),)


def best(example: Example, logits: Any, labels: Labels, settings: JSONObject) -> JSONObject:
    return {"label": labels[int(logits.argmax())]}


def count(examples: Sequence[Example], logits: Any, labels: Labels, settings: JSONObject) -> JSONObject:
    return {"examples": len(examples)}


def some_labels(examples: Sequence[Example]) -> Labels:
    return tuple(sorted({str(example.target) for example in examples}))


TOPIC = TaskSpec(
    name="topic",
    summary="One topic a text.",
    level="text",
    read=read_topic,
    labels=some_labels,
    targets=topic_target,
    make_head=linear_head,
    loss=mean_square,
    decode=best,
    evaluate=count,
    primary="examples",
)
WORDS = replace(
    TOPIC, name="words", level="token", read=read_words, targets=word_targets, split=whole_text, labels=("O",)
)


def write(path: Path, content: str) -> Path:
    path.write_bytes(content.encode())
    return path


def jsonl(path: Path, rows: Sequence[Record]) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def dataset_of(targets: Sequence[Any]) -> Dataset:
    examples = tuple(Example(f"text {row}", target, where=f"f:{row}") for row, target in enumerate(targets))
    return Dataset(examples, "f", content_sha256(examples))
