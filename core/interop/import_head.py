"""Reads the head of a plain PEFT adapter: the weights that PEFT saved, and those of the backbone's pooler."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from onetrunk.adapters.errors import ArtifactError, first_few
from onetrunk.adapters.format.peft_scales import Scales
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.inference.adapter_io import name_in_model
from onetrunk.core.interop.merging import merge_update

_CLASSIFIERS = ("classifier.out_proj.weight", "classifier.weight")
_LORA = re.compile(r"(.+)\.lora_([AB])\.weight")


def label_count(folder: Path, rest: Mapping[str, Tensor]) -> int:
    """Return the number of labels of the head. Raises ArtifactError if there is no classifier.

    rest: tensors by name. The classifier has the shape (labels, hidden size).
    """
    found = next((rest[key] for key in _CLASSIFIERS if key in rest), None)
    if found is None or found.ndim != 2:
        raise ArtifactError(
            folder,
            "adapter_model.safetensors has no classifier, so the adapter cannot predict labels; train it with "
            "PEFT's task_type TOKEN_CLS or SEQ_CLS, or with modules_to_save=['classifier']",
        )
    return int(found.shape[0])


def head_weights(
    folder: Path, config: Mapping[str, Any], rest: Mapping[str, Tensor], head: nn.Module, backbone: Backbone
) -> dict[str, Tensor]:
    """Return the weights of the adapter's head by name, in float32 and with the shapes of `head`.

    If PEFT has not saved a pooler, the pooler of the backbone is taken. LoRA weights of the head are merged.

    folder: the folder of the adapter, for messages.
    config: the content of `adapter_config.json`.
    rest: tensors by their names in the model that PEFT wraps, without the LoRA weights of the encoder.
    head: a new head of the task.

    Raises ArtifactError for missing weights, and for weights that belong neither to the head nor to LoRA.
    """
    expected = head.state_dict()
    prefix = f"{backbone.family.prefix}."
    names = {name_in_model(key, backbone.family, prefix): key for key in expected}
    found: dict[str, Tensor] = {}
    pairs: dict[str, dict[str, Tensor]] = {}
    foreign = []
    for name, tensor in rest.items():
        match = _LORA.fullmatch(name)
        if name in names:
            found[names[name]] = tensor.float()
        elif match is not None and f"{match[1]}.weight" in names:
            pairs.setdefault(match[1], {})[match[2]] = tensor
        else:
            foreign.append(name)
    if foreign:
        raise ArtifactError(
            folder,
            f"adapter_model.safetensors has weights that belong neither to LoRA nor to the head: "
            f"{first_few(foreign)}; the {backbone.family.model_type} encoder is frozen, so other weights of it "
            "cannot be imported",
        )
    if backbone.pooler is not None:
        found = {key: expected[key].cpu() for name, key in names.items() if name != key} | found
    if missing := sorted(expected.keys() - found.keys()):
        raise ArtifactError(
            folder,
            f"adapter_model.safetensors lacks weights of the head: {first_few(missing)}; PEFT has not saved them; "
            f"train the adapter again with modules_to_save={sorted({key.partition('.')[0] for key in expected})}",
        )
    scales = Scales(folder, config)
    for path, pair in pairs.items():
        key = names[f"{path}.weight"]
        update, weight = scales.update(path, path, pair), found[key]
        shape = (update.b.shape[0], update.a.shape[1])
        if shape != tuple(weight.shape):
            fault = f"the LoRA weights of {path} are for {shape}, but its weight has {tuple(weight.shape)}"
            raise ArtifactError(folder, fault)
        found[key] = merge_update(weight, update)
    return found
