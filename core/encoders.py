"""The encoder families that the packed trunk knows: their names on disk and their conventions.

BERT and RoBERTa share one layer layout; they differ in prefixes, in where positions begin and in the heads that
transformers puts on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from onetrunk.adapters.lora import Target
from onetrunk.adapters.peft_format import MODULE_PATHS


@dataclass(frozen=True, slots=True)
class Family:
    """One `model_type` of transformers.

    prefix: attribute that holds the encoder in a model with a head (`bert` in `BertForTokenClassification`).
    style: how transformers builds the sequence classification head.
    positions_after_padding: positions count from the padding id + 1 (RoBERTa) instead of 0.
    """

    model_type: str
    prefix: str
    style: Literal["bert", "roberta"]
    positions_after_padding: bool


FAMILIES = {
    family.model_type: family
    for family in (
        Family("bert", "bert", "bert", positions_after_padding=False),
        Family("roberta", "roberta", "roberta", positions_after_padding=True),
        Family("xlm-roberta", "roberta", "roberta", positions_after_padding=True),
        Family("camembert", "roberta", "roberta", positions_after_padding=True),
    )
}


def linear_shapes(config: Any) -> dict[Target, tuple[int, int]]:
    """Return (d_out, d_in) of every linear that an adapter can target."""
    width, wide = int(config.hidden_size), int(config.intermediate_size)
    square = dict.fromkeys(("query", "key", "value", "attention_output"), (width, width))
    shapes = {**square, "intermediate": (wide, width), "output": (width, wide)}
    return {
        (i, module): shape for i in range(int(config.num_hidden_layers)) for module, shape in shapes.items()
    }


def expected_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the bare encoder's weights, as transformers names them."""
    width = int(config.hidden_size)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (int(config.vocab_size), width),
        "embeddings.position_embeddings.weight": (int(config.max_position_embeddings), width),
        "embeddings.token_type_embeddings.weight": (int(config.type_vocab_size), width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    for (i, module), (d_out, d_in) in linear_shapes(config).items():
        path = f"encoder.layer.{i}.{MODULE_PATHS[module]}"
        shapes |= {f"{path}.weight": (d_out, d_in), f"{path}.bias": (d_out,)}
    for i in range(int(config.num_hidden_layers)):
        for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"encoder.layer.{i}.{norm}.{part}": (width,) for part in ("weight", "bias")}
    return shapes
