"""An adapter in memory: its task, labels, LoRA weights and head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onetrunk.adapters.methods.lora import Lora
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import TaskSpecError
from onetrunk.core.tasks import HeadContext, HeadFormat, JSONObject, Labels, Pooling, Rows, TaskSpec
from onetrunk.core.tasks.guarded_calls import calling


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """The trained weights and settings of one task. Immutable once it serves.

    ref: its version, such as `ner@3`; predictions name it.
    lora: on the trunk's device, in `Trunk.adapter_dtype`.
    head: on the trunk's device, in float32, in evaluation mode.
    settings: of the decoder, such as a threshold.
    """

    ref: str
    spec: TaskSpec
    labels: Labels
    pooling: Pooling
    lora: Lora
    head: nn.Module
    settings: JSONObject

    @property
    def format(self) -> HeadFormat:
        """How the head is stored, and the model of transformers that has such a head."""
        return HeadFormat.of(self.head)


def build_head(
    spec: TaskSpec,
    backbone: Backbone,
    labels: Labels,
    pooling: Pooling,
    dropout: float = 0.0,
    fresh: bool = True,
) -> nn.Module:
    """Return a new head of a task, in float32 on the backbone's device.

    fresh: whether to initialise it for training; False if weights will be loaded into it.
    Raises TaskSpecError if `make_head` raises an error or does not return a module.
    """
    context = HeadContext(
        hidden_size=backbone.hidden_size,
        labels=labels,
        pooling=pooling,
        dropout=dropout,
        style=backbone.family.style,
        pooler=backbone.pooler,
        fresh=fresh,
    )
    with calling(spec, "make_head"):
        head = spec.make_head(context)
    if not isinstance(head, nn.Module):
        raise TaskSpecError(spec.name, [f"make_head returns {head!r}, expected a torch.nn.Module"])
    return head.to(device=backbone.device, dtype=torch.float32)


def head_logits(spec: TaskSpec, head: nn.Module, hidden: Tensor, rows: Rows) -> Tensor:
    """Return the logits of texts, (units, labels) float32.

    hidden: (rows, width), the hidden states of the texts.
    rows: the rows of each text and word.
    A unit is a text or a word, by the level of the task.
    Raises TaskSpecError if the head raises an error or does not return one row of logits for each unit.
    """
    with calling(spec, "the head"):
        logits = head(hidden.float(), rows)
    units = spec.units_of(len(rows.words), len(rows.offsets) - 1)
    if not isinstance(logits, Tensor) or not logits.ndim or len(logits) != units:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        expected = f"expected a tensor with one row for each of {units} units (level {spec.level!r})"
        raise TaskSpecError(spec.name, [f"the head returns logits {found}, {expected}"])
    return logits.float()
