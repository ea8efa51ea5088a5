"""Reads and checks the configuration of an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onetrunk.core.backbones.checkpoint import first_line, is_there
from onetrunk.core.backbones.families import Family, Sizes, sizes_of
from onetrunk.core.errors import BackboneError, UnsupportedBackbone

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")

_COUNTS = (
    "vocab_size",
    "max_position_embeddings",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)


def read_config(name: str, folder: Path) -> Any:
    """Return the transformers configuration in `folder`.

    Raises BackboneError if it is missing or a size is below 1, UnsupportedBackbone if transformers cannot read it.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    if not is_there(name, folder / "config.json"):
        raise BackboneError(name, f"config.json is missing in {folder}")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, KeyError, OSError, StrictDataclassError) as error:
        raise UnsupportedBackbone(name, f"config.json cannot be read: {first_line(error)}") from error
    _check_counts(name, config)
    return config


def _check_counts(name: str, config: Any) -> None:
    """Raise BackboneError for a size (number of layers, of heads, …) below 1."""
    written: Mapping[str, str] = config.attribute_map  # DistilBERT writes hidden_size as dim
    for key in _COUNTS:
        value = getattr(config, key, 1)
        if isinstance(value, int) and value < 1:
            raise BackboneError(
                name, f"config.json: {written.get(key, key)} is {value}; expected a whole number from 1 on"
            )


def check_positions(name: str, family: Family, config: Any) -> None:
    """Raise BackboneError for too few positions, or an invalid padding id if positions begin after it."""
    first, padding = 0, config.pad_token_id
    if family.positions_after_padding:
        if not isinstance(padding, int) or padding < 0:
            raise BackboneError(
                name,
                f"config.json: pad_token_id is {padding}; expected a whole number from 0 on, after which the "
                f"positions of {config.model_type!r} begin",
            )
        first = padding + 1
    if (positions := int(config.max_position_embeddings)) < first + 3:
        raise BackboneError(
            name,
            f"config.json: max_position_embeddings is {positions}; expected {first + 3} or more, for a token "
            "between two special ones",
        )


def checked_sizes(name: str, family: Family, config: Any) -> Sizes:
    """Return the sizes of a packed encoder. Raises UnsupportedBackbone if the packed trunk cannot compute it."""
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
