"""Devices and precisions: checks a user's choice against the hardware, and copies tensors to a device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.backbones.kernels import has_int8, has_native_bf16
from onetrunk.core.errors import UsageError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}
"""Dtype of the matrix products with pretrained weights, by precision. With int8, everything else is in float32."""


def resolve_device(device: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:N`. Raises UsageError if it is not available."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise UsageError(f"device {device!r} is unknown; expected auto, cpu, cuda or cuda:N") from None
    if wanted.type not in ("cpu", "cuda"):
        raise UsageError(f"device {device!r} is not supported; expected auto, cpu, cuda or cuda:N")
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"device {device!r} is not available; torch finds {torch.cuda.device_count()} CUDA devices"
        )
    return wanted


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Return the dtype for `fp32`, `bf16`, `int8` or `auto`: bf16 if the device has instructions for it, else fp32.

    Raises UsageError for another name, and for int8 if torch has no kernels for it on `device`.
    """
    if dtype == "auto":
        return torch.bfloat16 if has_native_bf16(device) else torch.float32
    if dtype not in DTYPES:
        raise UsageError(f"precision {dtype!r} is unknown; expected auto, {', '.join(DTYPES)}")
    if dtype == "int8" and not (device.type == "cpu" and has_int8()):
        fault, remedy = f"the device is {device}", "--device cpu, or fp32 or bf16"
        if device.type == "cpu":
            fault, remedy = "and torch has no int8 kernels for this CPU", "fp32 or bf16"
        raise UsageError(f"precision int8 requires an x86 CPU, {fault}; use {remedy}")
    return DTYPES[dtype]


def name_of(dtype: torch.dtype) -> str:
    """Return `fp32`, `bf16` or `int8`."""
    return next(name for name, known in DTYPES.items() if known == dtype)


def to_device(values: Tensor | np.ndarray, device: torch.device) -> Tensor:
    """Return `values` as a tensor on `device`. A copy to a GPU uses page-locked memory and does not block."""
    tensor = torch.as_tensor(values)
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
