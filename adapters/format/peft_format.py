"""PEFT's format: LoRA weights and heads under PEFT's key names, and what its `adapter_config.json` says of them.

Written so that `PeftModel.from_pretrained` gives the same logits, read without importing PEFT.
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
    "use_dora",
    "fan_in_fan_out",
    "lora_bias",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
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
"""Options that are read here, say how weights came about, or have a meaning only with one of `_UNSUPPORTED`."""
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Values of `init_lora_weights` with which PEFT subtracts from the backbone what the adapter starts with."""


def peft_tensors(lora: Lora, layout: Layout, prefix: str, head: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what `adapter_model.safetensors` holds, float32 on the CPU.

    layout: of the encoder; prefix: of it in the model that PEFT wraps, `bert.` or empty for a bare encoder.
    head: weights by their name in that model.
    """
    tensors = {f"{ROOT}{name}": tensor for name, tensor in head.items()}
    for (layer, module), update in lora.updates.items():
        path = f"{ROOT}{prefix}{layout.path(layer, module)}"
        tensors |= {f"{path}.lora_A.weight": update.a, f"{path}.lora_B.weight": update.b}
    return {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class PeftOptions:
    """Options of `adapter_config.json` that do not follow from the weights.

    task_type: PEFT's name of the task.
    base_model, revision: of the backbone.
    dropout: dropout of the training, 0 to 1.
    modules_to_save: names of the head's modules.
    """

    task_type: str = "FEATURE_EXTRACTION"
    base_model: str = ""
    revision: str | None = None
    dropout: float = 0.0
    modules_to_save: Sequence[str] = ()


def peft_config(lora: Lora, layout: Layout, options: PeftOptions) -> dict[str, Any]:
    """Return the content of `adapter_config.json`, made by PEFT's own `LoraConfig`.

    All updates must have the same rank and the same scale (see `with_uniform_rank`); alpha is scale * rank.
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
    """Return a pattern for exactly the adapted modules; suffixes could not tell BERT's two output.dense apart."""
    layers = "|".join(str(layer) for layer in sorted({layer for layer, _ in updates}))
    targets = {module for _, module in updates}
    paths = "|".join(re.escape(path) for module, path in layout.modules.items() if module in targets)
    return rf"(?:.*\.)?{re.escape(layout.layers)}\.(?:{layers})\.(?:{paths})"


def _plain(value: Any) -> Any:
    """Return a JSON value for what PEFT's dictionary holds (enumerations, sets)."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value.value if hasattr(value, "value") else value


def read_peft(
    where: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], layout: Layout, prefix: str
) -> tuple[Lora, dict[str, Tensor]]:
    """Return the LoRA updates, and the other tensors by their name in the model that PEFT wraps.

    Ranks and scales may differ from module to module. Raises ArtifactError for another PEFT method, an option that
    changes the computation in a way that is not supported, or keys that do not belong together.
    """
    _check_options(where, config)
    lora_key = re.compile(rf"{re.escape(layout.layers)}\.(\d{{1,6}})\.(.+)\.lora_([AB])\.weight")
    modules = {path: module for module, path in layout.modules.items()}
    halves: dict[Target, dict[str, Tensor]] = {}
    rest: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = key.removeprefix(ROOT)
        match = lora_key.fullmatch(name.removeprefix(prefix))
        if match is None:
            rest[name] = tensor
        elif match[2] not in modules:
            raise ArtifactError(
                where, f"adapter_model.safetensors adapts {match[2]!r}, not an encoder linear"
            )
        else:
            halves.setdefault((int(match[1]), modules[match[2]]), {})[match[3]] = tensor
    scales = Scales(where, config)
    updates = {
        target: scales.update(f"layer {target[0]} {target[1]}", f"{prefix}{layout.path(*target)}", pair)
        for target, pair in sorted(halves.items())
    }
    return Lora(updates), rest


def _check_options(where: Path, config: Mapping[str, Any]) -> None:
    """Raise ArtifactError for another method, and for options with which PEFT computes something else."""
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
            "them, or have PEFT merge it into its model (merge_and_unload) and give that as a backbone",
        )


def unknown_options(config: Mapping[str, Any]) -> list[str]:
    """Return the options of an `adapter_config.json` of which nobody here knows what they do, as `name=value`.

    An option of a newer PEFT that has the installed one's default value, or is off, does nothing.
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
    """Return the same updates with one rank and one scale, as `peft_config` needs them.

    Where they differ, lower ranks are filled up with zeros to the highest, and each scale is folded into its B, so
    that it is 1.
    """
    if len({(update.a.shape[0], update.scale) for update in lora.updates.values()}) < 2:
        return lora
    rank = max(update.a.shape[0] for update in lora.updates.values())
    return Lora({target: _filled_up(update, rank) for target, update in lora.updates.items()})


def _filled_up(update: LowRank, rank: int) -> LowRank:
    more = rank - update.a.shape[0]
    a, b = F.pad(update.a, (0, 0, 0, more)), F.pad(update.b * update.scale, (0, more))
    return LowRank(a, b, 1.0)
