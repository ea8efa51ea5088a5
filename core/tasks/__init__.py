"""The contract of a task, and functions that help to write one. Importing this module does not import torch.

A plugin imports from here at its top: `from onetrunk.core.tasks import Example, TaskSpec, hookimpl`. The modules
`heads`, which imports torch, and `metrics`, which imports numpy, are imported inside the functions that use them.
"""

from __future__ import annotations

from onetrunk.core.tasks.entities import Entity, checked_entities
from onetrunk.core.tasks.hookspecs import CommandSpec, EpochEvent, StepEvent, hookimpl
from onetrunk.core.tasks.losses import cross_entropy, total_weight
from onetrunk.core.tasks.prediction import Prediction
from onetrunk.core.tasks.records import (
    IGNORE,
    Example,
    HeadContext,
    HeadFormat,
    HeadStyle,
    JSONObject,
    Labels,
    Level,
    Pooling,
    Record,
    Rows,
    Span,
    Targets,
    TaskNote,
    UnknownLabel,
)
from onetrunk.core.tasks.spec import DEFAULT_PROBE, TaskSpec, label_faults
from onetrunk.core.tasks.text_tasks import best_index, label_index, label_name, labelled_text, make_text_head
from onetrunk.core.tasks.word_splitter import split_words

__all__ = [
    "DEFAULT_PROBE",
    "IGNORE",
    "CommandSpec",
    "Entity",
    "EpochEvent",
    "Example",
    "HeadContext",
    "HeadFormat",
    "HeadStyle",
    "JSONObject",
    "Labels",
    "Level",
    "Pooling",
    "Prediction",
    "Record",
    "Rows",
    "Span",
    "StepEvent",
    "Targets",
    "TaskNote",
    "TaskSpec",
    "UnknownLabel",
    "best_index",
    "checked_entities",
    "cross_entropy",
    "hookimpl",
    "label_faults",
    "label_index",
    "label_name",
    "labelled_text",
    "make_text_head",
    "split_words",
    "total_weight",
]
