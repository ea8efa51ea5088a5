"""The weights of a packed trunk. Query, key and value are one product."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

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

        The float32 kernels of CPUs copy a row-major weight for every product. They do not copy a column-major one,
        which is faster for few tokens.
        """
        copied = weight.device.type == "cpu" and weight.dtype == torch.float32
        return cls(weight.t().contiguous().t() if copied else weight, bias)

    def __call__(self, x: Tensor) -> Tensor:
        """Map (tokens, d_in) to (tokens, d_out)."""
        return F.linear(x, self.weight, self.bias)

    def back(self, grad: Tensor) -> Tensor:
        """Map the gradient of the output, (tokens, d_out), to that of the input, (tokens, d_in)."""
        return grad @ self.weight


@dataclass(frozen=True, slots=True)
class Norm:
    """Weight and bias (width,) of a layer norm."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Layer:
    """One encoder layer. qkv: query, key and value, stacked: (3 * width, width)."""

    qkv: Linear | Int8Linear
    attention_output: Linear | Int8Linear
    attention_norm: Norm
    intermediate: Linear | Int8Linear
    output: Linear | Int8Linear
    output_norm: Norm


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The weights of the input of the first layer.

    words: (vocabulary, embedding).
    positions: (positions, embedding); the embedding of token type 0 is added, if the encoder has token types.
    projection: from the size of the embeddings to that of the layers; None if both are equal.
    """

    words: Tensor
    positions: Tensor
    norm: Norm
    projection: Linear | None = None


Record = TypeVar("Record", Embeddings, Layer)


def named_tensors(record: Any) -> dict[str, Tensor]:
    """Return all tensors of a record of this module by their path, such as `qkv.weight`, in their own shapes."""
    if isinstance(record, Int8Linear):
        return record.tensors()
    named: dict[str, Tensor] = {}
    for each in fields(record):
        value = getattr(record, each.name)
        if isinstance(value, Tensor):
            named[each.name] = value
        elif value is not None:
            named |= {f"{each.name}.{path}": tensor for path, tensor in named_tensors(value).items()}
    return named


def with_noise(record: Record, noise: float, generator: torch.Generator) -> Record:
    """Return the record with relative noise on the weights of its norms. It shares all other weights."""
    values = {each.name: getattr(record, each.name) for each in fields(record)}
    norms = {name: value for name, value in values.items() if isinstance(value, Norm)}
    noisy: dict[str, Any] = {
        name: Norm(noised(own.weight, noise, generator), own.bias) for name, own in norms.items()
    }
    return replace(record, **noisy)


def noised(weight: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Return `weight`, of any shape, with normal noise: the standard deviation is `noise` times the number."""
    drawn = 1.0 + noise * torch.randn(weight.shape, generator=generator)
    return (weight.float() * drawn.to(weight.device)).to(weight.dtype)


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
    linear: Callable[[str, Tensor, Tensor], Linear | Int8Linear],
) -> Layer:
    """Return layer `index` of a backbone.

    tensors: its weights by name, in the shapes of `expected_shapes`.
    to: arguments of `Tensor.to`.
    linear: makes a product of the name of its first module, a weight (d_out, d_in) and a bias (d_out,).
    """

    def read(paths: list[str], part: str) -> Tensor:
        found = [tensors[f"{path}.{part}"].to(**to) for path in paths]
        return torch.cat(found) if len(found) > 1 else found[0]

    def product(*modules: str) -> Linear | Int8Linear:
        paths = [family.layout.path(index, module) for module in modules]
        return linear(modules[0], read(paths, "weight"), read(paths, "bias"))

    norms = [
        Norm(*(read([f"{family.layout.layers}.{index}.{path}"], part) for part in _PARTS))
        for path in family.norms
    ]
    return Layer(
        qkv=product("query", "key", "value"),
        attention_output=product("attention_output"),
        attention_norm=norms[0],
        intermediate=product("intermediate"),
        output=product("output"),
        output_norm=norms[1],
    )
