"""The weights of the trunk, in the layout that computes fastest: query, key and value fused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onetrunk.core.encoders import Family

_PARTS = ("weight", "bias")


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one encoder layer; weight (d_out, d_in), bias (d_out,); qkv is query, key, value stacked."""

    qkv_weight: Tensor
    qkv_bias: Tensor
    attention_output_weight: Tensor
    attention_output_bias: Tensor
    attention_norm_weight: Tensor
    attention_norm_bias: Tensor
    intermediate_weight: Tensor
    intermediate_bias: Tensor
    output_weight: Tensor
    output_bias: Tensor
    output_norm_weight: Tensor
    output_norm_bias: Tensor


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Embedding weights; `positions` has the one token type of single sequences added in."""

    words: Tensor
    positions: Tensor
    norm_weight: Tensor
    norm_bias: Tensor

    def to_width(self, x: Tensor) -> Tensor:
        """Return what enters the first layer, (tokens, width), of normed embeddings (tokens, embedding)."""
        return x


@dataclass(frozen=True, slots=True)
class ProjectedEmbeddings(Embeddings):
    """Embeddings narrower than the layers; projection (width, embedding) leads from the one to the other."""

    projection_weight: Tensor
    projection_bias: Tensor

    def to_width(self, x: Tensor) -> Tensor:
        """Return what enters the first layer, (tokens, width), of normed embeddings (tokens, embedding)."""
        return F.linear(x, self.projection_weight, self.projection_bias)


def embeddings_of(tensors: Mapping[str, Tensor], to: Mapping[str, Any]) -> Embeddings:
    """Return the embeddings among the `tensors` of a backbone, moved as `to` says."""
    positions = tensors["embeddings.position_embeddings.weight"]
    if (token_types := tensors.get("embeddings.token_type_embeddings.weight")) is not None:
        positions = positions + token_types[0]
    parts = {
        "words": tensors["embeddings.word_embeddings.weight"].to(**to),
        "positions": positions.to(**to),
        "norm_weight": tensors["embeddings.LayerNorm.weight"].to(**to),
        "norm_bias": tensors["embeddings.LayerNorm.bias"].to(**to),
    }
    if "embeddings_project.weight" not in tensors:
        return Embeddings(**parts)
    projection = {f"projection_{part}": tensors[f"embeddings_project.{part}"].to(**to) for part in _PARTS}
    return ProjectedEmbeddings(**parts, **projection)


def layer_of(tensors: Mapping[str, Tensor], family: Family, index: int, to: Mapping[str, Any]) -> Layer:
    """Return the layer `index` among the `tensors` of a backbone, moved as `to` says."""

    def get(path: str, part: str) -> Tensor:
        return tensors[f"{path}.{part}"].to(**to)

    paths = {module: family.layout.path(index, module) for module in family.layout.modules}
    norms = [f"{family.layout.layers}.{index}.{norm}" for norm in family.norms]
    named = {
        "attention_output": paths["attention_output"],
        "attention_norm": norms[0],
        "intermediate": paths["intermediate"],
        "output": paths["output"],
        "output_norm": norms[1],
    }
    own = {f"{name}_{part}": get(path, part) for name, path in named.items() for part in _PARTS}
    for part in _PARTS:
        own[f"qkv_{part}"] = torch.cat([get(paths[module], part) for module in ("query", "key", "value")])
    return Layer(**own)
