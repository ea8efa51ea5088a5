"""Trunks for tests that look inside them."""

from __future__ import annotations

import torch

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.trunk.build import trunk_of
from onetrunk.core.trunk.packed import PackedTrunk


def packed_trunk(backbone: Backbone, dtype: torch.dtype | None = None) -> PackedTrunk:
    trunk = trunk_of(backbone, dtype)
    assert isinstance(trunk, PackedTrunk)
    return trunk
