"""PEFT's format: LoRA weights and heads by PEFT's names of tensors, and `adapter_config.json`.

PEFT loads files of this format with `PeftModel.from_pretrained`. `read_peft` does not import PEFT.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onetrunk.adapters.errors import ArtifactError
from onetrunk.adapters.format.peft_scales import Scales
from onetrunk.adapters.methods.lora import Lora, LowRank, Target
from onetrunk.adapters.methods.target_modules import Layout

ROOT = "base_model.model."
_UNSUPPORTED = (
    *("use_dora", "use_qalora", "use_bdlora", "fan_in_fan_out", "lora_bias", "layer_replication"),
    *("target_parameters", "trainable_token_indices", "alora_invocation_tokens"),
    *("arrow_config", "kasa_config", "monteclora_config", "velora_config"),
)
_HARMLESS = frozenset(
    (
        *("peft_type", "task_type", "peft_version", "auto_mapping", "inference_mode", "runtime_config"),
        *("base_model_name_or_path", "revision", "modules_to_save", "ensure_weight_tying"),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
        *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "lora_dropout", "bias"),
        *("init_lora_weights", "loftq_config", "eva_config", "corda_config", "lora_ga_config"),
        *("megatron_config", "megatron_core", "qalora_group_size"),
    )
)
"""Options that are supported, that do not change the logits, or that matter only with an unsupported option."""
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Values of `init_lora_weights` with which PEFT changes the weights of the backbone."""


def peft_tensors(lora: Lora, layout: Layout, prefix: str, head: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of `adapter_model.safetensors` by name, float32 on the CPU.

    layout: paths of the modules in the encoder.
    prefix: path of the encoder in the model that PEFT wraps, such as `bert.`; empty if PEFT wraps the encoder.
    head: weights of the head by their names in the model that PEFT wraps.
    """
    tensors = {f"{ROOT}{name}": tensor for name, tensor in head.items()}
    for (layer, module), update in lora.updates.items():
        path = f"{ROOT}{prefix}{layout.path(layer, module)}"
        tensors |= {f"{path}.lora_A.weight": update.a, f"{path}.lora_B.weight": update.b}
    return {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class PeftOptions:
    """Options of `adapter_config.json` that do not follow from the weights.

    task_type: PEFT's name of the task, a key of `target_modules.MODELS`.
    base_model: Hub id or folder of the backbone.
    revision: commit of the backbone on the Hub; None for a folder.
    dropout: dropout of the training, 0 to 1.
    modules_to_save: names of the head's modules.
    """

    task_type: str = "FEATURE_EXTRACTION"
    base_model: str = ""
    revision: str | None = None
    dropout: float = 0.0
    modules_to_save: Sequence[str] = ()


def peft_config(lora: Lora, layout: Layout, options: PeftOptions) -> dict[str, Any]:
    """Return the content of `adapter_config.json`.

    All updates must have the same rank and the same scale (see `with_uniform_rank`).
    """
    from peft import LoraConfig

    first = next(iter(lora.updates.values()))
    rank = first.a.shape[0]
    config = LoraConfig(
        task_type=options.task_type,
        r=rank,
        lora_alpha=first.scale * rank,  # type: ignore[arg-type]
        lora_dropout=options.dropout,
        target_modules=_target_pattern(lora.updates, layout),
        modules_to_save=list(options.modules_to_save) or None,
        base_model_name_or_path=options.base_model,
        revision=options.revision,
        inference_mode=True,
    )
    return {key: _plain(value) for key, value in config.to_dict().items()}


def _target_pattern(updates: Mapping[Target, LowRank], layout: Layout) -> str:
    """Return a pattern of exactly the adapted modules. The suffix `output.dense` would match two of BERT's."""
    layers = "|".join(str(layer) for layer in sorted({layer for layer, _ in updates}))
    targets = {module for _, module in updates}
    paths = "|".join(re.escape(path) for module, path in layout.modules.items() if module in targets)
    return rf"(?:.*\.)?{re.escape(layout.layers)}\.(?:{layers})\.(?:{paths})"


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value.value if hasattr(value, "value") else value


def read_peft(
    where: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], layout: Layout, prefix: str
) -> tuple[Lora, dict[str, Tensor]]:
    """Return the LoRA updates, and all other tensors by their names in the model that PEFT wraps.

    where: folder of the adapter, for messages.
    config: content of `adapter_config.json`.
    tensors: content of `adapter_model.safetensors`.
    layout: paths of the modules in the encoder.
    prefix: path of the encoder in the model that PEFT wraps.

    Raises ArtifactError for another PEFT method than LoRA, for an unsupported option, and for tensors that do not
    fit together.
    """
    _check_options(where, config)
    lora_key = re.compile(rf"{re.escape(layout.layers)}\.(\d{{1,6}})\.(.+)\.lora_([AB])\.weight")
    modules = {path: module for module, path in layout.modules.items()}
    halves: dict[Target, dict[str, Tensor]] = {}
    others: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = key.removeprefix(ROOT)
        match = lora_key.fullmatch(name.removeprefix(prefix))
        if match is None:
            others[name] = tensor
        elif match[2] not in modules:
            why = f"{match[2]!r}, which is not a linear module of the encoder"
            raise ArtifactError(where, f"adapter_model.safetensors adapts {why}")
        else:
            halves.setdefault((int(match[1]), modules[match[2]]), {})[match[3]] = tensor
    scales = Scales(where, config)
    updates = {
        target: scales.update(f"layer {target[0]} {target[1]}", f"{prefix}{layout.path(*target)}", pair)
        for target, pair in sorted(halves.items())
    }
    return Lora(updates), others


def _check_options(where: Path, config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise ArtifactError(where, f"peft_type is {config.get('peft_type')!r}, expected 'LORA'")
    options = [f"{key}={config[key]!r:.60}" for key in _UNSUPPORTED if config.get(key)]
    if config.get("bias", "none") != "none":
        options.append(f"bias={config['bias']!r:.60}")
    if str(config.get("init_lora_weights")).lower().startswith(_CHANGES_BASE):
        options.append(f"init_lora_weights={config['init_lora_weights']!r:.60}")
    if options:
        raise ArtifactError(
            where,
            f"adapter_config.json has options that are not supported: {', '.join(options)}; train it again without "
            "them, or merge it into its model with PEFT (merge_and_unload) and use the model as a backbone",
        )


def unknown_options(config: Mapping[str, Any]) -> list[str]:
    """Return the options of an `adapter_config.json` that this module does not know, as `name=value`.

    Options that are off, or that have the default value of the installed PEFT, are left out.
    """
    from peft import LoraConfig

    usual = {key: _plain(value) for key, value in LoraConfig().to_dict().items()}
    known = _HARMLESS.union(_UNSUPPORTED)
    return [
        f"{key}={value!r:.60}"
        for key, value in config.items()
        if key not in known and value and value != usual.get(key)
    ]


def with_uniform_rank(lora: Lora) -> Lora:
    """Return equivalent updates that all have the same rank and scale, as `peft_config` requires.

    If ranks or scales differ, each A and B is padded with zeros to the highest rank and B is multiplied by the
    scale.
    """
    if len({(update.a.shape[0], update.scale) for update in lora.updates.values()}) < 2:
        return lora
    rank = max(update.a.shape[0] for update in lora.updates.values())
    padded = {}
    for target, update in lora.updates.items():
        more = rank - update.a.shape[0]
        a, b = F.pad(update.a, (0, 0, 0, more)), F.pad(update.b * update.scale, (0, more))
        padded[target] = LowRank(a, b, 1.0)
    return Lora(padded)
