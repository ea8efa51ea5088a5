"""The weights of a packed trunk: query, key and value are one product."""

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
        """Return the product, with its weight in the fastest memory layout of its device.

        The float32 kernels of CPUs copy a row-major weight for every product, and a column-major one never, which
        is faster for few tokens.
        """
        copied = weight.device.type == "cpu" and weight.dtype == torch.float32
        return cls(weight.t().contiguous().t() if copied else weight, bias)

    def __call__(self, x: Tensor) -> Tensor:
        """Map (tokens, d_in) to (tokens, d_out)."""
        return F.linear(x, self.weight, self.bias)

    def back(self, grad: Tensor) -> Tensor:
        """Map the gradient of the output, (tokens, d_out), to that of the input, (tokens, d_in)."""
        return grad @ self.weight

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights by name, in their own shapes."""
        return {"weight": self.weight, "bias": self.bias}


@dataclass(frozen=True, slots=True)
class Norm:
    """Weight and bias (width,) of a layer norm."""

    weight: Tensor
    bias: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights by name, in their own shapes."""
        return {"weight": self.weight, "bias": self.bias}

    def with_noise(self, noise: float, generator: torch.Generator) -> Norm:
        """Return the norm with relative noise on its weight."""
        return Norm(with_noise(self.weight, noise, generator), self.bias)


@dataclass(frozen=True, slots=True)
class Layer:
    """One encoder layer. qkv: query, key and value, stacked: (3 * width, width)."""

    qkv: Linear | Int8Linear
    attention_output: Linear | Int8Linear
    attention_norm: Norm
    intermediate: Linear | Int8Linear
    output: Linear | Int8Linear
    output_norm: Norm

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights by name, in their own shapes."""
        parts = {f.name: getattr(self, f.name).tensors() for f in fields(self)}
        return {f"{name}.{part}": tensor for name, own in parts.items() for part, tensor in own.items()}

    def with_noise(self, noise: float, generator: torch.Generator) -> Layer:
        """Return the layer with relative noise on its norms. It shares all other weights."""
        norms = (own.with_noise(noise, generator) for own in (self.attention_norm, self.output_norm))
        return replace(self, attention_norm=next(norms), output_norm=next(norms))

    def in_int8(self, inputs: Mapping[str, Tensor]) -> Layer:
        """Return the layer in int8; inputs: typical inputs (tokens, d_in) of each product, by its first module."""

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
    """Embeddings.

    words: (vocabulary, embedding).
    positions: (positions, embedding), plus the token type of single sequences, if the family has token types.
    norm: weight and bias (embedding,).
    projection: from the size of the embeddings to that of the layers; None if both are equal.
    """

    words: Tensor
    positions: Tensor
    norm: Norm
    projection: Linear | None = None

    def to_width(self, x: Tensor) -> Tensor:
        """Return the input of the first layer, (tokens, width); x: (tokens, embedding), after the norm."""
        return x if self.projection is None else self.projection(x)

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights by name, in their own shapes."""
        named = {"words": self.words, "positions": self.positions}
        for name, own in (("norm", self.norm), ("projection", self.projection)):
            if own is not None:
                named |= {f"{name}.{part}": tensor for part, tensor in own.tensors().items()}
        return named

    def with_noise(self, noise: float, generator: torch.Generator) -> Embeddings:
        """Return the embeddings with relative noise on their norm. They share all other weights."""
        return replace(self, norm=self.norm.with_noise(noise, generator))


def embeddings_of(tensors: Mapping[str, Tensor], to: Mapping[str, Any]) -> Embeddings:
    """Return the embeddings of a backbone; tensors: its weights by name; to: arguments of `Tensor.to`."""

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
    """Return layer `index` of a backbone.

    tensors: its weights by name, in the shapes of `expected_shapes`.
    to: arguments of `Tensor.to`.
    linear: makes a product of a weight (d_out, d_in) and a bias (d_out,).
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
    """Return `weight`, of any shape, with normal noise: the standard deviation is `noise` times the number."""
    drawn = 1.0 + noise * torch.randn(weight.shape, generator=generator)
    return (weight.float() * drawn.to(weight.device)).to(weight.dtype)
