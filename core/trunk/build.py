"""Builds trunks. `trunk_of` shares one for each backbone and precision; `build_trunk` always builds a new one."""

from __future__ import annotations

import logging
from functools import cache

import torch
from torch import Tensor

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.families import sizes_of
from onetrunk.core.backbones.transformers_encoder import build_model
from onetrunk.core.errors import UsageError
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.calibration import calibrate, calibration_batch, states_of
from onetrunk.core.trunk.int8 import Int8Linear
from onetrunk.core.trunk.packed import PackedTrunk
from onetrunk.core.trunk.padded import PaddedTrunk, make_adaptable
from onetrunk.core.trunk.weights import Linear, embeddings_of, layer_of

_log = logging.getLogger(__name__)


def trunk_of(backbone: Backbone, dtype: torch.dtype | None = None) -> Trunk:
    """Return the trunk of `backbone` on its device. It is built unless one in this precision is in use.

    dtype: precision of the products with pretrained weights: float32, bfloat16, or int8, for inference only, with
        all else in float32. By default the backbone's.
    Raises BackboneError if the weights cannot be read, UsageError for int8 with a family that is not packed.
    """
    wanted = dtype or backbone.dtype
    with backbone.building:
        trunk: Trunk | None = backbone.trunks.get(wanted)
        if trunk is None:
            trunk = backbone.trunks[wanted] = build_trunk(backbone, wanted)
    return trunk


@torch.inference_mode(False)  # training may share the trunk
@torch.no_grad()
def build_trunk(backbone: Backbone, dtype: torch.dtype) -> Trunk:
    """Build a trunk with its own copy of the weights. In bfloat16 and int8 its error is measured (`Trunk.error`).

    dtype: as for `trunk_of`.
    Raises BackboneError if the weights cannot be read, UsageError for int8 with a family that is not packed.
    """
    if not backbone.family.packed:
        return _build_padded(backbone, dtype)
    if dtype != torch.float32:
        return _build_calibrated(backbone, dtype)
    copied, tensors = _copied(backbone, dtype), backbone.read_tensors()
    layers = [
        layer_of(tensors, backbone.family, i, copied, lambda _, *own: Linear.of(*own))
        for i in range(backbone.layers)
    ]
    return PackedTrunk(embeddings_of(tensors, copied), layers, sizes_of(backbone.family, backbone.config))


def _copied(backbone: Backbone, dtype: torch.dtype) -> dict[str, object]:
    """Return arguments of `Tensor.to`. It copies, because the files that tensors are mapped from may change."""
    return {"device": backbone.device, "dtype": dtype, "copy": True}


def _build_calibrated(backbone: Backbone, dtype: torch.dtype) -> PackedTrunk:
    """Build a packed trunk in bfloat16 or int8. One layer at a time is in memory in float32."""
    family, sizes = backbone.family, sizes_of(backbone.family, backbone.config)
    exact, reduced = _copied(backbone, torch.float32), _copied(backbone, dtype)
    tensors, texts = backbone.read_tensors(), calibration_batch(backbone)
    embeddings, layers = embeddings_of(tensors, exact), []
    states = PackedTrunk(embeddings, (), sizes).embed(texts)
    inputs: dict[str, Tensor] = {}

    def rounded(module: str, weight: Tensor, bias: Tensor) -> Int8Linear:
        return Int8Linear(weight, bias, inputs[module])

    for index in range(backbone.layers):
        layer = layer_of(tensors, family, index, exact, lambda _, *own: Linear(*own))
        states, inputs = PackedTrunk(embeddings, (layer,), sizes).recorded(states, texts)
        if dtype == torch.int8:
            layers.append(layer_of(tensors, family, index, exact, rounded))
        else:
            layers.append(layer_of(tensors, family, index, reduced, lambda _, *own: Linear.of(*own)))
    if dtype != torch.int8:
        embeddings = embeddings_of(tensors, reduced)
    trunk = PackedTrunk(embeddings, layers, sizes)
    calibrate(trunk, texts, states)
    return trunk


def _build_padded(backbone: Backbone, dtype: torch.dtype) -> PaddedTrunk:
    if dtype == torch.int8:
        raise UsageError(
            f"precision int8 is not supported for {backbone.family.model_type} encoders; use fp32 or bf16"
        )
    _warn_once(backbone.family.model_type)
    model = build_model(backbone.config, backbone.read_tensors(), backbone.device)
    make_adaptable(model, backbone.family.layout, backbone.linear_shapes)
    texts = calibration_batch(backbone)
    exact = None if dtype == torch.float32 else states_of(PaddedTrunk(model, backbone.config), texts)
    for parameter in model.parameters():  # buffers stay exact: some models compute positions from them
        parameter.data = parameter.data.to(dtype, copy=True)  # the file that it is mapped from may change
    trunk = PaddedTrunk(model, backbone.config)
    if exact is not None:
        calibrate(trunk, texts, exact)
    return trunk


@cache
def _warn_once(model_type: str) -> None:
    _log.warning(
        "%s encoders have no packed form: transformers runs this one over padded batches, one adapter at a time, "
        "which is slower and gives the same results",
        model_type,
    )
