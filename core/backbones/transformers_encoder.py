"""Encoders that are not in `FAMILIES`: transformers' own model runs them.

The linear modules that an adapter can target, and the names of the weights, are read from the model: no
architecture needs a record here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onetrunk.adapters.errors import first_few
from onetrunk.adapters.methods.target_modules import BERT_LAYOUT, Layout
from onetrunk.core.backbones.checkpoint import check_finite, first_line, weight_files
from onetrunk.core.backbones.families import FAMILIES, Family
from onetrunk.core.backbones.rng import global_generators
from onetrunk.core.errors import BackboneError, UnsupportedBackbone

SUPPORTED = (
    f"supported: {', '.join(FAMILIES)}, and more slowly other encoders that transformers has a masked language "
    "model of (deberta-v2, modernbert, …)"
)

_NAMES = {path: module for module, path in BERT_LAYOUT.modules.items()} | {
    "attention.self.query_proj": "query",  # DeBERTa v2 and v3
    "attention.self.key_proj": "key",
    "attention.self.value_proj": "value",
    "attention.attn.q": "query",  # MPNet
    "attention.attn.k": "key",
    "attention.attn.v": "value",
    "attention.attn.o": "attention_output",
    "attn.Wqkv": "qkv",  # ModernBERT
    "attn.Wo": "attention_output",
    "mlp.Wi": "intermediate",
    "mlp.Wo": "output",
}
"""Path of a module within a layer → its name as a LoRA target. A module at any other path is named by its path."""

_INDEXED = re.compile(r"(.+?)\.\d+\.(.+)")
_TOLERANCE = 1e-4
"""Largest change of a hidden state by padding, relative to the largest hidden state, that is taken for rounding."""


def load_padded(name: str, folder: Path, config: Any) -> tuple[Family, dict[str, Tensor]]:
    """Return the family of an encoder that transformers runs, and its weights by name, in float32 on the CPU.

    Raises UnsupportedBackbone for a model that is not an encoder, has no list of layers with linear modules, or has
    hidden states that depend on padding; BackboneError if weights are missing or cannot be read.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    if config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise UnsupportedBackbone(
            name, f"{config.model_type!r} is not an encoder that reads in both directions; {SUPPORTED}"
        )
    model = _read_model(name, folder)
    check_finite(name, model.state_dict())
    pooler = (getattr(config, "pooler_hidden_act", None), getattr(config, "pooler_hidden_size", None))
    has_same_head = config.model_type in ("deberta", "deberta-v2") and pooler == ("gelu", config.hidden_size)
    family = Family(
        model_type=config.model_type,
        prefix=model.base_model_prefix,
        style="deberta" if has_same_head else "plain",
        layout=_layout(name, config, model),
        positions_after_padding=any(  # such position embeddings have a padding index
            "position" in path and isinstance(module, nn.Embedding) and module.padding_idx is not None
            for path, module in model.named_modules()
        ),
        packed=False,
        pooler_inside=False,
    )
    _check_padding(name, config, model)
    return family, _tensors(model)


def read_padded(name: str, folder: Path) -> dict[str, Tensor]:
    """Return the weights of an encoder that `load_padded` has checked, by name, in float32 on the CPU."""
    return _tensors(_read_model(name, folder))


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.detach().contiguous() for key, tensor in model.state_dict().items()}


def _read_model(name: str, folder: Path) -> Any:
    from transformers import AutoModel

    weight_files(name, folder)
    options: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True, "trust_remote_code": False}
    try:
        model, found = AutoModel.from_pretrained(folder, output_loading_info=True, **options)
    except Exception as error:  # transformers does not check these files and raises any error
        raise BackboneError(name, f"transformers cannot load it: {first_line(error)}") from error
    if missing := sorted(key for key in found["missing_keys"] if not key.startswith("pooler")):
        raise BackboneError(name, f"weights are missing: {first_few(missing)}")
    return _bare(model).requires_grad_(False).eval()


def build_model(
    config: Any, tensors: Mapping[str, Tensor], device: torch.device, attention: str | None = None
) -> nn.Module:
    """Return transformers' model of an encoder without a head, frozen, in evaluation mode.

    tensors: its weights by name, in the shapes of the model.
    attention: name of an attention implementation of transformers, None for the default one.
    """
    from transformers import AutoModel

    options: dict[str, Any] = {"dtype": torch.float32, "trust_remote_code": False}
    if attention is not None:
        options["attn_implementation"] = attention
    with global_generators():  # transformers draws random initial weights, which are replaced below
        model = _bare(AutoModel.from_config(config, **options))
    model.load_state_dict({key: tensor.to(device) for key, tensor in tensors.items()}, assign=True)
    frozen: nn.Module = model.to(device).requires_grad_(False).eval()
    return frozen


def _bare(model: Any) -> Any:
    """Return `model` without its pooler, which OneTrunk does not use."""
    if hasattr(model, "pooler"):
        model.pooler = nn.Identity()
    return model


def _layout(name: str, config: Any, model: nn.Module) -> Layout:
    """Return the list of layers that has the most linear modules, and the paths of these within a layer."""
    linears = [path for path, module in model.named_modules() if type(module) is nn.Linear]
    indexed = [match for path in linears if (match := _INDEXED.fullmatch(path))]
    if not indexed:
        raise UnsupportedBackbone(name, f"{config.model_type!r} has no layers of linear modules; {SUPPORTED}")
    ((layers, _),) = Counter(match[1] for match in indexed).most_common(1)
    paths = dict.fromkeys(match[2] for match in indexed if match[1] == layers)
    return Layout(layers, {_NAMES.get(path, path): path for path in paths})


@torch.inference_mode()
def _check_padding(name: str, config: Any, model: nn.Module) -> None:
    """Raise UnsupportedBackbone unless the model runs on token ids alone and ignores padding.

    Some architectures (FNet) do not mask padding: a prediction would depend on the other texts of its batch.
    """
    pad = config.pad_token_id or 0
    ids = (torch.arange(8) % 4 + pad + 1) % config.vocab_size
    long, short = ids[None], ids[None, :4]
    padded = torch.stack([ids, torch.cat([ids[:4], ids.new_full((4,), pad)])])
    keep = torch.ones_like(padded)
    keep[1, 4:] = 0
    try:
        alone = [model(input_ids=one, attention_mask=torch.ones_like(one))[0][0] for one in (long, short)]
        both = model(input_ids=padded, attention_mask=keep)[0]
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise UnsupportedBackbone(name, f"transformers cannot run it on token ids alone: {error}") from error
    shapes = [tuple(states.shape) for states in alone]
    if shapes != [(8, config.hidden_size), (4, config.hidden_size)]:
        raise UnsupportedBackbone(
            name,
            f"{config.model_type!r} returns hidden states of shapes {shapes}, expected one for each token",
        )
    worst = max(
        float((states - padded[: len(states)]).abs().max())
        for states, padded in zip(alone, both, strict=True)
    )
    if not worst <= _TOLERANCE * max(1.0, float(both.abs().max())):
        raise UnsupportedBackbone(
            name,
            f"{config.model_type!r} gives other hidden states in a padded batch, predictions would depend on it",
        )
