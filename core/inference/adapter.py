"""An adapter in memory, ready to compute: its task, labels, updates and head."""

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
    """A task's learnt part. Immutable once it serves.

    ref: how it is named in answers, `ner@3`.
    lora: the updates, in the trunk's `adapter_dtype` on its device.
    head: on the trunk's device, in float32, in evaluation mode.
    settings: the decoder's (a threshold, say).
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
        """How the head is stored, and used without OneTrunk."""
        return HeadFormat.of(self.head)


def build_head(
    spec: TaskSpec,
    backbone: Backbone,
    labels: Labels,
    pooling: Pooling,
    dropout: float = 0.0,
    fresh: bool = True,
) -> nn.Module:
    """Return a head of `spec` for `backbone`, float32 on the backbone's device; not `fresh`: to be loaded next.

    Raises TaskSpecError for what `make_head` raises, and where it makes no module.
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
        raise TaskSpecError(spec.name, [f"make_head gives {head!r}, expected a torch.nn.Module"])
    return head.to(device=backbone.device, dtype=torch.float32)


def head_logits(spec: TaskSpec, head: nn.Module, hidden: Tensor, rows: Rows) -> Tensor:
    """Return the logits (units, anything) float32 of texts whose hidden states (T, H) lie as `rows` says.

    Raises TaskSpecError for what the head raises, and where it does not give a row of logits a unit.
    """
    with calling(spec, "the head"):
        logits = head(hidden.float(), rows)
    units = spec.units_of(len(rows.words), len(rows.offsets) - 1)
    if not isinstance(logits, Tensor) or not logits.ndim or len(logits) != units:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        expected = f"expected a tensor with a row for each of {units} units (level {spec.level!r})"
        raise TaskSpecError(spec.name, [f"the head gives logits {found}, {expected}"])
    return logits.float()
