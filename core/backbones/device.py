"""Where to compute and in what precision: asked of the hardware, never assumed."""

from __future__ import annotations

import torch

from onetrunk.core.errors import UsageError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}
"""What the frozen products multiply in, by name; beside int8 products, all else is in float32."""


def resolve_device(device: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:N`. Raises UsageError if it is not there."""
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
            f"device {device!r} is not here; torch sees {torch.cuda.device_count()} CUDA devices"
        )
    return wanted


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Return the type for `auto` (bf16 where the device multiplies it natively), `fp32`, `bf16` or `int8`.

    Raises UsageError for another, and for int8 where torch has no kernels for it.
    """
    if dtype == "auto":
        return torch.bfloat16 if has_native_bf16(device) else torch.float32
    if dtype not in DTYPES:
        raise UsageError(f"precision {dtype!r} is unknown; expected auto, {', '.join(DTYPES)}")
    if dtype == "int8" and not (device.type == "cpu" and has_int8()):
        where = "this one" if device.type == "cpu" else f"{device}; name --device cpu"
        raise UsageError(f"precision int8 runs on x86 CPUs alone, not on {where}, or use fp32 or bf16")
    return DTYPES[dtype]


def has_native_bf16(device: torch.device) -> bool:
    """Whether matrix products in bf16 have instructions of their own (CUDA ≥ 8.0, AVX512-BF16, AMX)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    cpu = torch.cpu
    return bool(cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())


def has_int8() -> bool:
    """Whether torch has the kernels here, and the engine for quantised products that is chosen is one with them."""
    operator = "linear_with_input_q_dq_qweight_dq_output_fp32"
    return torch.backends.quantized.engine in ("x86", "fbgemm") and hasattr(torch.ops.quantized, operator)


def name_of(dtype: torch.dtype) -> str:
    """Return `fp32`, `bf16` or `int8`."""
    return next(name for name, known in DTYPES.items() if known == dtype)
