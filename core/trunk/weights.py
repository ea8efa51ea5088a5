"""The weights of the trunk, in the layout that computes fastest: query, key and value fused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onetrunk.core.backbones.families import Family
from onetrunk.core.trunk.int8 import Int8Linear

_PARTS = ("weight", "bias")


@dataclass(frozen=True, slots=True)
class Linear:
    """The product x W^T + b.  weight: (d_out, d_in); bias: (d_out,)."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor) -> Linear:
        """Return the product with its weight laid out in memory as the device likes it.

        A CPU's kernels for fp32 copy a weight of (d_out, d_in) for every product, W^T for none: few tokens gain.
        """
        copied = weight.device.type == "cpu" and weight.dtype == torch.float32
        return cls(weight.t().contiguous().t() if copied else weight, bias)

    def __call__(self, x: Tensor) -> Tensor:
        """Map (tokens, d_in) to (tokens, d_out)."""
        return F.linear(x, self.weight, self.bias)

    def back(self, grad: Tensor) -> Tensor:
        """Map the gradient of the output, (tokens, d_out), to that of the input."""
        return grad @ self.weight

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights by name."""
        return {"weight": self.weight, "bias": self.bias}


@dataclass(frozen=True, slots=True)
class Norm:
    """Weight and bias (width,) of a layer norm."""

    weight: Tensor
    bias: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights by name."""
        return {"weight": self.weight, "bias": self.bias}

    def with_noise(self, noise: float, generator: torch.Generator) -> Norm:
        """Return the norm with noise on its weight."""
        return Norm(with_noise(self.weight, noise, generator), self.bias)


@dataclass(frozen=True, slots=True)
class Layer:
    """One encoder layer; qkv is query, key and value, stacked."""

    qkv: Linear | Int8Linear
    attention_output: Linear | Int8Linear
    attention_norm: Norm
    intermediate: Linear | Int8Linear
    output: Linear | Int8Linear
    output_norm: Norm

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights by name."""
        parts = {f.name: getattr(self, f.name).tensors() for f in fields(self)}
        return {f"{name}.{part}": tensor for name, own in parts.items() for part, tensor in own.items()}

    def with_noise(self, noise: float, generator: torch.Generator) -> Layer:
        """Return the layer with noise on its norms; it shares the rest."""
        norms = (own.with_noise(noise, generator) for own in (self.attention_norm, self.output_norm))
        return replace(self, attention_norm=next(norms), output_norm=next(norms))

    def in_int8(self, inputs: Mapping[str, Tensor]) -> Layer:
        """Return the layer with its products in int8; inputs: such as each will have, by its first module."""

        def rounded(product: Linear | Int8Linear, module: str) -> Int8Linear:
            own = product.tensors()
            return Int8Linear(own["weight"], own["bias"], inputs[module])

        return replace(
            self,
            qkv=rounded(self.qkv, "query"),
            attention_output=rounded(self.attention_output, "attention_output"),
            intermediate=rounded(self.intermediate, "intermediate"),
            output=rounded(self.output, "output"),
        )


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Embedding weights; `positions` has the one token type of single sequences added in.

    projection: from the width of the embeddings to that of the layers; None where they are the same.
    """

    words: Tensor
    positions: Tensor
    norm: Norm
    projection: Linear | None = None

    def to_width(self, x: Tensor) -> Tensor:
        """Return what enters the first layer, (tokens, width), of normed embeddings (tokens, embedding)."""
        return x if self.projection is None else self.projection(x)

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights by name."""
        named = {"words": self.words, "positions": self.positions}
        for name, own in (("norm", self.norm), ("projection", self.projection)):
            if own is not None:
                named |= {f"{name}.{part}": tensor for part, tensor in own.tensors().items()}
        return named

    def with_noise(self, noise: float, generator: torch.Generator) -> Embeddings:
        """Return the embeddings with noise on their norm; they share the rest."""
        return replace(self, norm=self.norm.with_noise(noise, generator))


def embeddings_of(tensors: Mapping[str, Tensor], to: Mapping[str, Any]) -> Embeddings:
    """Return the embeddings among the `tensors` of a backbone, moved as `to` says."""

    def pair(path: str) -> tuple[Tensor, Tensor]:
        return tensors[f"{path}.weight"].to(**to), tensors[f"{path}.bias"].to(**to)

    positions = tensors["embeddings.position_embeddings.weight"]
    if (token_types := tensors.get("embeddings.token_type_embeddings.weight")) is not None:
        positions = positions + token_types[0]
    return Embeddings(
        words=tensors["embeddings.word_embeddings.weight"].to(**to),
        positions=positions.to(**to),
        norm=Norm(*pair("embeddings.LayerNorm")),
        projection=Linear(*pair("embeddings_project")) if "embeddings_project.weight" in tensors else None,
    )


def layer_of(
    tensors: Mapping[str, Tensor],
    family: Family,
    index: int,
    to: Mapping[str, Any],
    linear: Callable[[Tensor, Tensor], Linear],
) -> Layer:
    """Return the layer `index` among the `tensors` of a backbone, moved as `to` says.

    linear: makes a product of its weight and bias.
    """

    def get(path: str, part: str) -> Tensor:
        return tensors[f"{path}.{part}"].to(**to)

    def one(module: str) -> Linear:
        path = family.layout.path(index, module)
        return linear(get(path, "weight"), get(path, "bias"))

    qkv = [family.layout.path(index, module) for module in ("query", "key", "value")]
    norms = [
        Norm(*(get(f"{family.layout.layers}.{index}.{norm}", part) for part in _PARTS))
        for norm in family.norms
    ]
    return Layer(
        qkv=linear(*(torch.cat([get(path, part) for path in qkv]) for part in _PARTS)),
        attention_output=one("attention_output"),
        attention_norm=norms[0],
        intermediate=one("intermediate"),
        output=one("output"),
        output_norm=norms[1],
    )


def with_noise(weight: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Return `weight` with each number changed by `noise` times itself on average, as `generator` draws."""
    drawn = 1.0 + noise * torch.randn(weight.shape, generator=generator)
    return (weight.float() * drawn.to(weight.device)).to(weight.dtype)
