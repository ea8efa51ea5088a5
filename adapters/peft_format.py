"""PEFT's format: LoRA weights and heads under PEFT's key names, and what its `adapter_config.json` says of them.

Written so that `PeftModel.from_pretrained` gives the same logits, read without importing PEFT.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onetrunk.adapters.errors import ArtifactError
from onetrunk.adapters.lora import Lora, LowRank, Target
from onetrunk.adapters.modules import Layout

ROOT = "base_model.model."
_UNSUPPORTED = (
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
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
)
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


def peft_config(
    lora: Lora,
    layout: Layout,
    *,
    task_type: str,
    base_model: str,
    revision: str | None,
    dropout: float,
    modules_to_save: Sequence[str],
) -> dict[str, Any]:
    """Return `adapter_config.json`, made by PEFT's own `LoraConfig`.

    All updates must have one rank and one scale, as a run gives them; alpha is scale * rank.
    """
    from peft import LoraConfig

    first = next(iter(lora.updates.values()))
    rank = first.a.shape[0]
    config = LoraConfig(
        task_type=task_type,
        r=rank,
        lora_alpha=first.scale * rank,  # type: ignore[arg-type]
        lora_dropout=dropout,
        target_modules=_target_pattern(lora.updates, layout),
        modules_to_save=list(modules_to_save) or None,
        base_model_name_or_path=base_model,
        revision=revision,
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

    Raises ArtifactError for another PEFT method, an option that changes the computation in a way that is not
    supported, or keys that do not belong together.
    """
    if config.get("peft_type") != "LORA":
        raise ArtifactError(where, f"peft_type is {config.get('peft_type')!r}, expected 'LORA'")
    options = [f"{key}={config[key]!r}" for key in _UNSUPPORTED if config.get(key)]
    if config.get("bias", "none") != "none":
        options.append(f"bias={config['bias']!r}")
    if str(config.get("init_lora_weights")).lower().startswith(_CHANGES_BASE):
        options.append(f"init_lora_weights={config['init_lora_weights']!r}")
    if options:
        raise ArtifactError(
            where, f"adapter_config.json has options that are not supported: {', '.join(options)}"
        )
    lora_key = re.compile(rf"{re.escape(layout.layers)}\.(\d+)\.(.+)\.lora_([AB])\.weight")
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
    return Lora({t: _update(where, t, pair, config) for t, pair in sorted(halves.items())}), rest


def _update(where: Path, target: Target, pair: Mapping[str, Tensor], config: Mapping[str, Any]) -> LowRank:
    rank, alpha = _positive(config.get("r")), _positive(config.get("lora_alpha"))
    if not isinstance(rank, int) or not rank or not alpha:
        given = f"r={config.get('r')!r}, lora_alpha={config.get('lora_alpha')!r}"
        raise ArtifactError(where, f"adapter_config.json: {given}; expected positive numbers")
    name = f"layer {target[0]} {target[1]}"
    if set(pair) != {"A", "B"}:
        raise ArtifactError(where, f"adapter_model.safetensors has only lora_{next(iter(pair))} for {name}")
    a, b = pair["A"], pair["B"]
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != rank or b.shape[1] != rank:
        raise ArtifactError(where, f"{name}: A is {tuple(a.shape)} and B {tuple(b.shape)}, but r is {rank}")
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return LowRank(a.float(), b.float(), scale)


def _positive(value: Any) -> int | float:
    """Return `value`, or 0 for what is no positive number."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0
