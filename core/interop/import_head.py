"""The head of a plain PEFT adapter: the weights that PEFT saved, and those of the backbone's pooler."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from onetrunk.adapters.errors import ArtifactError, first_few
from onetrunk.adapters.format.peft_scales import Scales
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.interop.merging import merge_update

_CLASSIFIERS = ("classifier.out_proj.weight", "classifier.weight")
_HALF = re.compile(r"(.+)\.lora_([AB])\.weight")


def label_count(folder: Path, rest: Mapping[str, Tensor]) -> int:
    """Return the number of labels of the head.

    rest: tensors by name, (labels, hidden size) for the classifier.

    Raises ArtifactError if there is no classifier.
    """
    found = next((rest[key] for key in _CLASSIFIERS if key in rest), None)
    if found is None or found.ndim != 2:
        raise ArtifactError(
            folder,
            "adapter_model.safetensors has no classifier, so it cannot predict anything; train it with PEFT's "
            " task_type TOKEN_CLS or SEQ_CLS, or modules_to_save=['classifier']",
        )
    return int(found.shape[0])


def head_weights(
    folder: Path, config: Mapping[str, Any], rest: Mapping[str, Tensor], head: nn.Module, backbone: Backbone
) -> dict[str, Tensor]:
    """Return the weights of the adapter's head by name, float32, with the shapes of `head`.

    folder: of the adapter, for messages.
    config: content of `adapter_config.json`.
    rest: tensors by their names in the model that PEFT wraps, without the updates of the encoder.
    head: a new head of the task.

    A pooler that PEFT has not saved is the backbone's; an update of it is merged into it. Raises ArtifactError for
    missing weights, and for weights that belong neither to the head nor to an update.
    """
    expected = head.state_dict()
    inside = f"{backbone.family.prefix}."
    names = {(inside + key if _in_encoder(key, backbone) else key): key for key in expected}
    found: dict[str, Tensor] = {}
    halves: dict[str, dict[str, Tensor]] = {}
    foreign = []
    for name, tensor in rest.items():
        match = _HALF.fullmatch(name)
        if name in names:
            found[names[name]] = tensor.float()
        elif match is not None and f"{match[1]}.weight" in names:
            halves.setdefault(match[1], {})[match[2]] = tensor
        else:
            foreign.append(name)
    if foreign:
        raise ArtifactError(
            folder,
            f"adapter_model.safetensors has weights of neither updates nor a head: {first_few(foreign)}; the "
            f"{backbone.family.model_type} encoder is frozen, so its other weights cannot be imported",
        )
    if backbone.pooler is not None:
        found = {key: expected[key].cpu() for key in expected if _in_encoder(key, backbone)} | found
    if missing := sorted(expected.keys() - found.keys()):
        raise ArtifactError(
            folder,
            f"adapter_model.safetensors lacks weights of the head: {first_few(missing)}; PEFT has not saved them; "
            "train it again with modules_to_save=["
            f"{', '.join(repr(name) for name in sorted({key.partition('.')[0] for key in expected}))}]",
        )
    scales = Scales(folder, config)
    for path, pair in halves.items():
        key = names[f"{path}.weight"]
        found[key] = _merged(folder, path, found[key], scales, pair)
    return found


def _merged(folder: Path, path: str, weight: Tensor, scales: Scales, pair: Mapping[str, Tensor]) -> Tensor:
    """Return the weight of the head's linear module at `path` with its update merged in."""
    update = scales.update(path, path, pair)
    shape = (update.b.shape[0], update.a.shape[1])
    if shape != tuple(weight.shape):
        raise ArtifactError(
            folder, f"the update of {path} is for {shape}, its weight is {tuple(weight.shape)}"
        )
    return merge_update(weight, update)


def _in_encoder(key: str, backbone: Backbone) -> bool:
    """Tell whether transformers counts the head's weight `key` to the encoder, such as BERT's pooler."""
    return backbone.family.pooler_inside and key.startswith("pooler.")
