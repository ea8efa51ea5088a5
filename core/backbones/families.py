"""Encoder families, and the sizes that an encoder's configuration declares.

The packed trunk (`core.trunk.packed`) runs the families in `FAMILIES`. They all have BERT's layer: attention, a
norm, two products with an activation between, a norm. They differ in the names of the weights, in the embeddings
and in the heads of transformers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onetrunk.adapters.methods.lora import Target
from onetrunk.adapters.methods.target_modules import BERT_LAYOUT, Layout
from onetrunk.core.backbones.checkpoint import first_line, is_there
from onetrunk.core.errors import BackboneError, UnsupportedBackbone
from onetrunk.core.tasks import HeadStyle

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")

_COUNTS = (
    "vocab_size",
    "max_position_embeddings",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One `model_type` of transformers.

    prefix: attribute of the encoder in a model with a head (`bert` in `BertForTokenClassification`).
    style: the structure of transformers' head for sequence classification.
    layout: paths of the linear modules.
    norms: paths, within a layer, of the norm after attention and of the norm at the end.
    positions_after_padding: whether positions begin at the padding id + 1 (RoBERTa) instead of 0.
    token_types: whether the embeddings have token types.
    projected: whether embeddings may be narrower than the layers, with a projection between (ELECTRA).
    config_names: BERT's name of a size → the name in this family's configuration, if it differs.
    epsilon: epsilon of the norms; None to read it from the configuration.
    packed: whether the packed trunk runs the encoder. Otherwise transformers' model runs it over padded batches,
        and only prefix, style, layout and positions_after_padding are used.
    pooler_inside: whether the pooler is part of the encoder (BERT) or of the head.
    """

    model_type: str
    prefix: str
    style: HeadStyle
    layout: Layout = BERT_LAYOUT
    norms: tuple[str, str] = ("attention.output.LayerNorm", "output.LayerNorm")
    positions_after_padding: bool = False
    token_types: bool = True
    projected: bool = False
    config_names: Mapping[str, str] = field(default_factory=dict)
    epsilon: float | None = None
    packed: bool = True
    pooler_inside: bool = True


_DISTILBERT = Family(
    model_type="distilbert",
    prefix="distilbert",
    style="distilbert",
    layout=Layout(
        "transformer.layer",
        {
            "query": "attention.q_lin",
            "key": "attention.k_lin",
            "value": "attention.v_lin",
            "attention_output": "attention.out_lin",
            "intermediate": "ffn.lin1",
            "output": "ffn.lin2",
        },
    ),
    norms=("sa_layer_norm", "output_layer_norm"),
    token_types=False,
    config_names={"intermediate_size": "hidden_dim", "hidden_act": "activation"},
    epsilon=1e-12,
)

FAMILIES = {
    family.model_type: family
    for family in (
        Family(model_type="bert", prefix="bert", style="bert"),
        *(
            Family(model_type=name, prefix="roberta", style="roberta", positions_after_padding=True)
            for name in ("roberta", "xlm-roberta", "camembert")
        ),
        Family(model_type="electra", prefix="electra", style="electra", projected=True),
        _DISTILBERT,
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes and conventions of one encoder, under the same names for all families.

    token_types: number of token type embeddings, 0 without.
    embedding: number of values of an embedding.
    width: number of values of a hidden state.
    wide: number of values between the two products of a layer (`intermediate_size`).
    """

    vocabulary: int
    positions: int
    token_types: int
    embedding: int
    width: int
    wide: int
    layers: int
    heads: int
    activation: str
    epsilon: float


def read_config(name: str, folder: Path) -> Any:
    """Return the configuration of transformers in `folder`.

    Raises BackboneError if it is missing or if a size (number of layers, of heads, …) is below 1, and
    UnsupportedBackbone if transformers cannot read it.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    if not is_there(name, folder / "config.json"):
        raise BackboneError(name, f"config.json is missing in {folder}")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, KeyError, OSError, StrictDataclassError) as error:
        raise UnsupportedBackbone(name, f"config.json cannot be read: {first_line(error)}") from error
    written: Mapping[str, str] = config.attribute_map  # DistilBERT writes hidden_size as dim
    for key in _COUNTS:
        value = getattr(config, key, 1)
        if isinstance(value, int) and value < 1:
            raise BackboneError(
                name, f"config.json: {written.get(key, key)} is {value}; expected a whole number from 1 on"
            )
    return config


def check_positions(name: str, family: Family, config: Any) -> None:
    """Raise BackboneError if the encoder has too few positions, or if they depend on an invalid padding id."""
    first, padding = 0, config.pad_token_id
    if family.positions_after_padding:
        if not isinstance(padding, int) or padding < 0:
            raise BackboneError(
                name,
                f"config.json: pad_token_id is {padding}; expected a whole number from 0 on, because "
                f"the positions of {config.model_type!r} begin at the number after it",
            )
        first = padding + 1
    if (positions := int(config.max_position_embeddings)) < first + 3:
        raise BackboneError(
            name,
            f"config.json: max_position_embeddings is {positions}; expected {first + 3} or more, so that a "
            "text of one token fits between two special tokens",
        )


def sizes_of(family: Family, config: Any) -> Sizes:
    """Read the sizes of an encoder of `family` from its transformers configuration."""

    def read(name: str) -> Any:
        return getattr(config, family.config_names.get(name, name))

    width = int(read("hidden_size"))
    return Sizes(
        vocabulary=int(read("vocab_size")),
        positions=int(read("max_position_embeddings")),
        token_types=int(read("type_vocab_size")) if family.token_types else 0,
        embedding=int(read("embedding_size")) if family.projected else width,
        width=width,
        wide=int(read("intermediate_size")),
        layers=int(read("num_hidden_layers")),
        heads=int(read("num_attention_heads")),
        activation=str(read("hidden_act")),
        epsilon=float(read("layer_norm_eps")) if family.epsilon is None else family.epsilon,
    )


def checked_sizes(name: str, family: Family, config: Any) -> Sizes:
    """Return the sizes of an encoder. Raises UnsupportedBackbone if the packed trunk does not support them."""
    if (kind := getattr(config, "position_embedding_type", None) or "absolute") != "absolute":
        raise UnsupportedBackbone(name, f"position embeddings of type {kind!r}; supported: absolute")
    sizes = sizes_of(family, config)
    if sizes.activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise UnsupportedBackbone(name, f"activation {sizes.activation!r}; supported: {known}")
    if sizes.width % sizes.heads:
        raise UnsupportedBackbone(
            name,
            f"hidden_size {sizes.width} is not a multiple of the number of attention heads, {sizes.heads}",
        )
    return sizes


def linear_shapes(layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> dict[Target, tuple[int, int]]:
    """Return (d_out, d_in) of every linear module that an adapter can target.

    shapes: the shapes of all weights of the encoder, by name.
    """
    numbered = re.compile(rf"{re.escape(layout.layers)}\.(\d+)\.")
    layers = {int(match[1]) for name in shapes if (match := numbered.match(name))}
    paths = {
        (i, module): f"{layout.path(i, module)}.weight" for i in sorted(layers) for module in layout.modules
    }
    found = {target: shapes[path] for target, path in paths.items() if path in shapes}
    return {target: (d_out, d_in) for target, (d_out, d_in) in found.items()}


def expected_shapes(family: Family, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the bare encoder's weights, as transformers names them."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (sizes.vocabulary, sizes.embedding),
        "embeddings.position_embeddings.weight": (sizes.positions, sizes.embedding),
        **_both("embeddings.LayerNorm", (sizes.embedding,)),
    }
    if sizes.token_types:
        shapes["embeddings.token_type_embeddings.weight"] = (sizes.token_types, sizes.embedding)
    if sizes.embedding != sizes.width:
        shapes |= _both("embeddings_project", (sizes.width, sizes.embedding))
    linears = dict.fromkeys(family.layout.modules, (sizes.width, sizes.width))
    linears |= {"intermediate": (sizes.wide, sizes.width), "output": (sizes.width, sizes.wide)}
    for i in range(sizes.layers):
        for module, shape in linears.items():
            shapes |= _both(family.layout.path(i, module), shape)
        for norm in family.norms:
            shapes |= _both(f"{family.layout.layers}.{i}.{norm}", (sizes.width,))
    return shapes


def _both(path: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"{path}.weight": shape, f"{path}.bias": shape[:1]}
