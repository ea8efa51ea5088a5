"""Builds trunks. `trunk_of` shares one for each backbone and precision; `build_trunk` always builds a new one.

A new trunk in bfloat16 or int8 is calibrated: its error is measured on fixed texts.
"""

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
from onetrunk.core.trunk.int8 import Int8Linear
from onetrunk.core.trunk.packed import PackedTrunk
from onetrunk.core.trunk.packing import Packed, pack
from onetrunk.core.trunk.padded import PaddedTrunk, make_adaptable
from onetrunk.core.trunk.weights import Linear, embeddings_of, layer_of

CALIBRATION_TEXTS = (
    "Ada Lovelace wrote to Charles Babbage from London on Tuesday.",
    "Please transfer $250.75 from my savings account to my landlord by Friday, and tell me when it is done.",
    "a gripping, beautifully acted film, although the ending is weak and far too long",
    "how do i change the pin of my card",
    "The European Central Bank raised its key rate by 0.25 percentage points to 4.5% in September 2023.",
    "Mitochondria produce most of a cell's adenosine triphosphate (ATP), a source of chemical energy.",
    "@anna lol that game last nite was insane!!! #finals http://t.co/x1y2z3",
    "def add(a: int, b: int) -> int:\n    return a + b  # the sum",
    "Die Katze schläft heute auf dem Sofa. Où est la gare, s'il vous plaît ?",
    "¿Dónde está mi pedido nº 42? Привет, как дела? مرحبا بالعالم",
    "我想订一张去北京的火车票。 東京 🙂",
    "Mr. O'Neill (aged 47), of 12 High Street, said: \"We'll appeal.\"",
    "not good",
    "",
)
"""Texts of several domains and scripts, code, a short text and an empty one."""

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
    tensors, texts = backbone.read_tensors(), _calibration_batch(backbone)
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
    _calibrate(trunk, texts, states)
    return trunk


def _build_padded(backbone: Backbone, dtype: torch.dtype) -> PaddedTrunk:
    if dtype == torch.int8:
        raise UsageError(
            f"precision int8 is not supported for {backbone.family.model_type} encoders; use fp32 or bf16"
        )
    _warn_once(backbone.family.model_type)
    model = build_model(backbone.config, backbone.read_tensors(), backbone.device)
    make_adaptable(model, backbone.family.layout, backbone.linear_shapes)
    texts = _calibration_batch(backbone)
    exact = None if dtype == torch.float32 else _states_of(PaddedTrunk(model, backbone.config), texts)
    for parameter in model.parameters():  # buffers stay exact: some models compute positions from them
        parameter.data = parameter.data.to(dtype, copy=True)  # the file that it is mapped from may change
    trunk = PaddedTrunk(model, backbone.config)
    if exact is not None:
        _calibrate(trunk, texts, exact)
    return trunk


@cache
def _warn_once(model_type: str) -> None:
    _log.warning(
        "%s encoders have no packed form: transformers runs this one over padded batches, one adapter at a time, "
        "which is slower and gives the same results",
        model_type,
    )


def _calibration_batch(backbone: Backbone) -> Packed:
    """Return `CALIBRATION_TEXTS`, packed for a trunk of `backbone` on its device."""
    encoded = backbone.encoder.encode(list(CALIBRATION_TEXTS), [()] * len(CALIBRATION_TEXTS))
    return pack(encoded, [0] * len(CALIBRATION_TEXTS), device=backbone.device)


def _calibrate(trunk: Trunk, texts: Packed, exact: Tensor) -> None:
    """Set `trunk.error` and `trunk.noise`; exact: (tokens, width), the hidden states of `texts` in float32."""
    states = _states_of(trunk, texts)
    trunk.error = _relative_error(states, exact)
    if not trunk.error:
        return
    noise = trunk.error / 4  # small: the effect of noise is proportional to it
    trunk.noise = noise * trunk.error / _relative_error(_states_of(trunk.with_noise(noise, 0), texts), states)


def _states_of(trunk: Trunk, texts: Packed) -> Tensor:
    """Return the hidden states (tokens, width) of `texts` in packed order, without adapters."""
    return trunk.run(trunk.embed(texts), texts, {})


def _relative_error(found: Tensor, exact: Tensor) -> float:
    """Return the norm of the error of `found` over the norm of `exact`; both have the same shape."""
    exact = exact.double()
    return float((found.double() - exact).norm() / exact.norm())
