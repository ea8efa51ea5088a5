"""Functions for tasks with one label per text: read a record, make a head, find the index of a label."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from onetrunk.core.tasks.records import Example, HeadContext, Labels, Record, UnknownLabel

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


_WHOLE_NUMBER = re.compile(r"([+-]?[0-9]+)\.0+")


def labelled_text(record: Record) -> Example:
    """Read a record {"text": ..., "label": ...}; without a label, the target is None.

    A list of one under `label`, or `labels`, is the label. `label_name` says what a bool and a number become.
    Raises ValueError for a label of another type, an empty label, several labels, and a record without a text.
    """
    text = record.get("text")
    label = record.get("labels") if record.get("label") is None else record["label"]
    if not isinstance(text, str):
        raise ValueError(f"expected a string under 'text', found {text!r}; the record has {sorted(record)}")
    if isinstance(label, list | tuple):
        if len(label) > 1:
            raise ValueError(
                f"expected one label, found {len(label)}: {str(label)[:80]}; keep one for each text"
            )
        label = label[0] if label else None
    if label is None:
        return Example(text)
    name = label_name(label)
    if not name:
        raise ValueError("the label is empty; leave 'label' out if the text has none")
    return Example(text, name)


def label_name(label: object) -> str:
    """Return the name of a label, the same for all file formats.

    true, "true" and "True" are `true`, and 1, 1.0, "1" and "1.0" are `1`. Raises ValueError for other types.
    """
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if not isinstance(label, str | int):
        raise ValueError(f"expected a string or an integer under 'label', found {label!r}")
    name = str(label).strip()
    if name.lower() in ("true", "false"):
        return name.lower()
    whole = _WHOLE_NUMBER.fullmatch(name)
    return whole[1] if whole else name


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
        raise ValueError("the record has no label; add one, or remove the record")
    try:
        return labels.index(example.target)
    except ValueError:
        raise UnknownLabel(example.target, labels) from None
