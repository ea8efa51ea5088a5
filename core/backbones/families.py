"""The encoder families of the packed trunk: names of weights, sizes and conventions.

All have the same layer: attention, a norm, two products with an activation between, a norm. They differ in the
names of the weights, in the embeddings and in transformers' heads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onetrunk.adapters.methods.lora import Target
from onetrunk.adapters.methods.target_modules import BERT_LAYOUT, Layout
from onetrunk.core.tasks import HeadStyle


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One `model_type` of transformers.

    prefix: attribute of the encoder in a model with a head (`bert` in `BertForTokenClassification`).
    style: the structure of transformers' head for sequence classification.
    layout: paths of the linear modules.
    norms: paths below a layer of the norms after attention and after the output.
    positions_after_padding: positions begin at the padding id + 1 (RoBERTa) instead of 0.
    token_types: whether the embeddings have token types; single sequences have the first.
    projected: whether embeddings may be narrower than the layers, with a projection between (ELECTRA).
    config_names: BERT's name of a size → the name in this family's configuration, if it differs.
    epsilon: of the norms; None if the configuration has it.
    packed: whether the packed trunk computes it. If not, transformers' model does, over padded batches; then only
        prefix, style, layout and positions_after_padding are used.
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

    width: size of a hidden state.
    wide: size between the two products of a layer (`intermediate_size`).
    embedding: size of an embedding.
    positions: number of position embeddings.
    token_types: number of token type embeddings, 0 without.
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


def linear_shapes(layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> dict[Target, tuple[int, int]]:
    """Return (d_out, d_in) of every linear that an adapter can target, from the shapes of the bare encoder."""
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
    """Return the shapes of weight and bias of the module at `path`."""
    return {f"{path}.weight": shape, f"{path}.bias": shape[:1]}
