"""Functions for tasks with one label per text: read a record, make a head, find the index of a label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onetrunk.core.tasks.spec import Example, HeadContext, Labels, Record, UnknownLabel

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


def labelled_text(record: Record) -> Example:
    """Read a record {"text": ..., "label": ...}; without a label, the target is None.

    An integer becomes a string, and a bool `true` or `false`. Raises ValueError for a label of another type, an
    empty label, and a record without a text.
    """
    text, label = record.get("text"), record.get("label")
    if not isinstance(text, str):
        raise ValueError(f"expected a string under 'text', found {text!r}; the record has {sorted(record)}")
    if label is None:
        return Example(text)
    if not isinstance(label, str | int):
        raise ValueError(f"expected a string or an integer under 'label', found {label!r}")
    name = str(label).lower() if isinstance(label, bool) else str(label).strip()
    if not name:
        raise ValueError("the label is empty; leave 'label' out if the text has none")
    return Example(text, name)


def make_text_head(context: HeadContext) -> nn.Module:
    """Return `heads.text_head(context)`. torch is imported only when this function is called."""
    from onetrunk.core.tasks.heads import text_head

    return text_head(context)


def best_index(logits: np.ndarray) -> int:
    """Return the index of the highest logit, the first one of a tie. logits: (1, labels)."""
    return int(logits[0].argmax())


def label_index(example: Example, labels: Labels) -> int:
    """Return the index of the target in `labels`. Raises UnknownLabel, and ValueError for a missing target."""
    if example.target is None:
        raise ValueError("the record has no label")
    try:
        return labels.index(example.target)
    except ValueError:
        raise UnknownLabel(example.target, labels) from None
