"""The weights of an encoder, read from a folder of safetensors, whichever head and naming the checkpoint has."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from onetrunk.core.errors import BackboneError


def read_weights(
    name: str, folder: Path, prefix: str, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor] | None]:
    """Return the weights of the bare encoder in float32, and those of its pooler where the files have one.

    prefix: of the encoder in a model with a head; shapes: of the weights that are needed, by name.
    Raises BackboneError where one is missing, has another shape or numbers that are not finite.
    """
    found: dict[str, Tensor] = {}
    for file in weight_files(name, folder):
        try:
            with safe_open(file, framework="pt") as weights:
                found |= {_bare_name(key, prefix): weights.get_tensor(key) for key in weights.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise BackboneError(name, f"{file.name} cannot be read: {first_line(error)}") from error
    if missing := [key for key in shapes if key not in found]:
        raise BackboneError(name, f"weights are missing: {shortened(missing)}")
    for key, shape in shapes.items():
        if (own := tuple(found[key].shape)) != shape:
            raise BackboneError(name, f"{key} has shape {own}, config.json says {shape}")
    pooler = [found.get(f"pooler.dense.{part}") for part in ("weight", "bias")]
    tensors = {key: found[key].float().contiguous() for key in shapes}
    check_finite(name, tensors)
    if pooler[0] is None or pooler[1] is None:
        return tensors, None
    weight, bias = pooler[0].float(), pooler[1].float()
    check_finite(name, {"pooler.dense.weight": weight, "pooler.dense.bias": bias})
    return tensors, (weight, bias)


def check_finite(name: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise BackboneError for a weight with NaN or infinity, which every answer would turn into."""
    if broken := [key for key, tensor in tensors.items() if not bool(tensor.isfinite().all())]:
        raise BackboneError(
            name, f"weights have numbers that are not finite: {shortened(broken)}; fetch or convert it again"
        )


def shortened(items: list[str]) -> str:
    """Return the first three of `items`, and how many more there are."""
    return ", ".join(items[:3]) + (f" and {len(items) - 3} more" if len(items) > 3 else "")


def weight_files(name: str, folder: Path) -> list[Path]:
    """Return the files with the weights. Raises BackboneError where one is missing; pickles are no weights."""
    index = folder / "model.safetensors.index.json"
    if is_there(name, index):
        weight_map = read_object(name, index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(
            isinstance(shard, str) for shard in weight_map.values()
        ):
            raise BackboneError(name, f"{index.name} has no weight_map from names of weights to files")
        files = [folder / os.path.basename(shard) for shard in sorted(set(weight_map.values()))]
    else:
        files = [folder / "model.safetensors"]
    for file in files:
        if not is_there(name, file):
            raise BackboneError(
                name, f"{file.name} is missing in {folder}; only safetensors is read, no pickle"
            )
    return files


def _bare_name(key: str, prefix: str) -> str:
    """Map a checkpoint's key to the bare encoder's: no prefix, and `weight`/`bias` for the old gamma/beta."""
    key = key.removeprefix(prefix + ".")
    return key.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def is_there(name: str, file: Path) -> bool:
    """Say whether `file` is one. Raises BackboneError where that may not be known, as in a forbidden folder."""
    try:
        return file.is_file()
    except OSError as error:
        raise BackboneError(name, f"{file} cannot be read: {error.strerror}; check permissions") from error


def read_object(name: str, file: Path) -> dict[str, Any]:
    """Return the JSON object in `file`. Raises BackboneError where it has none."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise BackboneError(name, f"{file.name} cannot be read: {first_line(error)}") from error
    if not isinstance(value, dict):
        raise BackboneError(name, f"{file.name} is no JSON object")
    return value


def first_line(error: Exception) -> str:
    """Return what `error` says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
