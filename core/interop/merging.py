"""Makes models of transformers from an adapter, and merges its LoRA weights into those of the encoder."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onetrunk.adapters.format.artifact import read_artifact
from onetrunk.adapters.methods.lora import Lora, LowRank
from onetrunk.adapters.methods.target_modules import MODELS
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.rng import global_generators
from onetrunk.core.backbones.transformers_encoder import build_model
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.inference.adapter_io import name_in_model

_CPU = torch.device("cpu")


def merged_weights(backbone: Backbone, lora: Lora) -> dict[str, Tensor]:
    """Return all weights of the encoder by name, with the LoRA updates merged in.

    The tensors are in float32 and on the CPU, and have the shapes of the checkpoint.
    """
    merged = backbone.read_tensors()
    for target, update in lora.to(_CPU, torch.float32).updates.items():
        name = f"{backbone.family.layout.path(*target)}.weight"
        merged[name] = merge_update(merged[name], update)
    return merged


def merge_update(weight: Tensor, update: LowRank) -> Tensor:
    """Return the weight of a linear module, (d_out, d_in), plus scale * B A as a new tensor."""
    return weight + update.scale * (update.b @ update.a)


def labelled_config(backbone: Backbone, labels: Sequence[str]) -> Any:
    """Return transformers' configuration of a model of `backbone` with a head for `labels`."""
    config = copy.deepcopy(backbone.config)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    return config


def transformers_model(
    adapter: Adapter, backbone: Backbone, encoder: Mapping[str, Tensor], head: nn.Module | None = None
) -> Any:
    """Return a model of transformers for `adapter`, in evaluation mode and in float32.

    The model has a head if transformers has a head like that of the adapter.

    encoder: the weights of the encoder by name, as from `merged_weights`.
    head: the head whose weights the model gets; None for random weights.
    """
    kind = adapter.format.task_type
    if kind is None:
        return build_model(backbone.config, encoder, _CPU)
    import transformers

    with global_generators():
        model = getattr(transformers, MODELS[kind]).from_config(
            labelled_config(backbone, adapter.labels), dtype=torch.float32, trust_remote_code=False
        )
    prefix = f"{backbone.family.prefix}."
    weights = {prefix + key: tensor for key, tensor in encoder.items()}
    for key, tensor in ({} if head is None else head.state_dict()).items():
        weights[name_in_model(key, backbone.family, prefix)] = tensor
    model.load_state_dict(weights, strict=False)
    return model.eval()


def peft_model(base: str, adapter: Path, labels: int) -> Any:
    """Return the model that PEFT loads from a stored adapter, in evaluation mode.

    base: Hub id or folder of the backbone.
    adapter: folder of the artifact.
    labels: the number of labels.
    """
    import transformers
    from peft import PeftModel

    task_type = read_artifact(adapter).adapter_config["task_type"]
    options = {} if task_type == "FEATURE_EXTRACTION" else {"num_labels": labels}
    model = getattr(transformers, MODELS[task_type]).from_pretrained(base, **options)
    return PeftModel.from_pretrained(model, adapter).eval()
