"""An adapter in memory, ready to compute: its task, labels, updates and head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from onetrunk.adapters.methods.lora import Lora
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.tasks import HeadContext, JSONObject, Labels, Pooling, TaskSpec


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """A task's learnt part. Immutable once it serves.

    ref: how it is named in answers, `ner@3`.
    lora: the updates, in the trunk's dtype on its device.
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


def build_head(
    spec: TaskSpec,
    backbone: Backbone,
    labels: Labels,
    pooling: Pooling,
    dropout: float = 0.0,
    fresh: bool = True,
) -> nn.Module:
    """Return a head of `spec` for `backbone`, float32 on the backbone's device; not `fresh`: to be loaded next."""
    context = HeadContext(
        hidden_size=backbone.hidden_size,
        labels=labels,
        pooling=pooling,
        dropout=dropout,
        style=backbone.family.style,
        pooler=backbone.pooler,
        fresh=fresh,
    )
    return spec.make_head(context).to(device=backbone.device, dtype=torch.float32)
