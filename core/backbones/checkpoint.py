"""Reads the weights of an encoder from safetensors files, whichever head the checkpoint has."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from onetrunk.adapters.errors import first_few
from onetrunk.core.errors import BackboneError

FileStamps = tuple[tuple[str, int, int], ...]
"""Name, size in bytes and time of the last change (ns) of each file."""
_POOLER = ("pooler.dense.weight", "pooler.dense.bias")


def read_weights(
    name: str, folder: Path, prefix: str, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """Return the weights of the bare encoder in float32, memory-mapped if the files are in float32.

    prefix: of the encoder's weights in a model with a head, such as `bert`; it may be absent in the files.
    shapes: the expected shape of each weight to read, by its name without prefix.
    Raises BackboneError if a weight is missing or has another shape.
    """
    found = _read(name, folder, prefix, shapes)
    if missing := [key for key in shapes if key not in found]:
        raise BackboneError(name, f"weights are missing: {first_few(missing)}")
    for key, expected in shapes.items():
        if (shape := tuple(found[key].shape)) != expected:
            raise BackboneError(name, f"{key} has shape {shape}, config.json says {expected}")
    return {key: found[key].float().contiguous() for key in shapes}


def read_pooler(name: str, folder: Path, prefix: str) -> tuple[Tensor, Tensor] | None:
    """Return the pooler's weight (width, width) and bias (width,) in float32, None without a pooler.

    Both are copies: they are not memory-mapped.
    Raises BackboneError if a number is not finite.
    """
    found = _read(name, folder, prefix, _POOLER)
    if len(found) < len(_POOLER):
        return None
    check_finite(name, found)
    weight, bias = (found[key].to(torch.float32, copy=True) for key in _POOLER)
    return weight, bias


def _read(name: str, folder: Path, prefix: str, wanted: Collection[str]) -> dict[str, Tensor]:
    """Return the `wanted` weights that the files have, in the stored dtype."""
    found: dict[str, Tensor] = {}
    for file in weight_files(name, folder):
        try:
            with safe_open(file, framework="pt") as weights:
                keys = {_bare_name(key, prefix): key for key in weights.keys()}  # noqa: SIM118
                found |= {bare: weights.get_tensor(key) for bare, key in keys.items() if bare in wanted}
        except (SafetensorError, OSError) as error:
            raise BackboneError(name, f"{file.name} cannot be read: {first_line(error)}") from error
    return found


def file_stamps(name: str, folder: Path) -> FileStamps:
    """Return name, size and time of change of each weight file. Raises BackboneError if a file is missing."""
    found = [(file.name, file.stat()) for file in weight_files(name, folder)]
    return tuple((file, status.st_size, status.st_mtime_ns) for file, status in found)


def check_finite(name: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise BackboneError if a tensor, of any shape, has NaN or infinity."""
    if broken := [key for key, tensor in tensors.items() if not bool(tensor.isfinite().all())]:
        raise BackboneError(
            name, f"weights have numbers that are not finite: {first_few(broken)}; fetch or convert it again"
        )


def weight_files(name: str, folder: Path) -> list[Path]:
    """Return the safetensors files with the weights. Raises BackboneError if one is missing."""
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
    """Return a weight's name in the bare encoder. Old checkpoints have other names for those of norms."""
    key = key.removeprefix(prefix + ".")
    return key.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def is_there(name: str, file: Path) -> bool:
    """Whether `file` is a file. Raises BackboneError if there is no permission to read its folder."""
    try:
        return file.is_file()
    except OSError as error:
        raise BackboneError(name, f"{file} cannot be read: {error.strerror}; check permissions") from error


def read_object(name: str, file: Path) -> dict[str, Any]:
    """Return the JSON object in `file`. Raises BackboneError if the file cannot be read or has no JSON object."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise BackboneError(name, f"{file.name} cannot be read: {first_line(error)}") from error
    if not isinstance(value, dict):
        raise BackboneError(name, f"{file.name} is not a JSON object")
    return value


def first_line(error: Exception) -> str:
    """Return the first line of the message of `error`."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
