"""All private and recent operators of torch that OneTrunk calls, and the hardware that each requires.

A release of torch may change or remove such an operator. `KERNELS` lists them by feature. A feature is not used if
the installed torch lacks one of its operators.
"""

from __future__ import annotations

import pkgutil
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

KERNELS = {
    "bf16 on CPUs": ("torch.cpu:_is_avx512_bf16_supported", "torch.cpu:_is_amx_tile_supported"),
    "int8 on CPUs": (
        "torch.cpu:_is_vnni_supported",
        "torch:quantize_per_channel",
        "torch:ops.quantized.linear_prepack",
        "torch:ops.quantized.linear_unpack",
        "torch:ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32",
    ),
    "attention over packed sequences on GPUs": ("torch.nn.attention.varlen:varlen_attn",),
    "grouped products on GPUs": ("torch.nn.functional:grouped_mm",),
}
"""Feature → the operators that it requires, as module:attribute."""


@cache
def has_kernels(feature: str) -> bool:
    """Whether the installed torch has all operators of a feature of `KERNELS`."""
    try:
        return all(map(pkgutil.resolve_name, KERNELS[feature]))
    except (ImportError, AttributeError):
        return False


def has_native_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16 products (CUDA ≥ 8.0, AVX512-BF16, AMX)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    feature = "bf16 on CPUs"
    return has_kernels(feature) and any(pkgutil.resolve_name(name)() for name in KERNELS[feature])


def has_int8() -> bool:
    """Whether torch has int8 kernels for this CPU: its engine for quantised products is one of those for x86."""
    return torch.backends.quantized.engine in ("x86", "fbgemm") and has_kernels("int8 on CPUs")


def has_vnni() -> bool:
    """Whether this CPU adds products of bytes in 32 bits (VNNI). Other CPUs add them in 16 bits."""
    return bool(torch.cpu._is_vnni_supported())


def has_packed_attention(device: torch.device, dtype: torch.dtype, size: int) -> bool:
    """Whether `packed_attention` runs on `device` in `dtype`; size: number of values of an attention head."""
    return (
        device.type == "cuda"
        and dtype in (torch.bfloat16, torch.float16)
        and size % 8 == 0
        and size <= 256
        and torch.cuda.get_device_capability(device) >= (8, 0)
        and has_kernels("attention over packed sequences on GPUs")
    )


def has_grouped_products(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `grouped_product` is one kernel on `device` in `dtype`. Elsewhere it is slow: one product a group."""
    return (
        device.type == "cuda"
        and dtype == torch.bfloat16
        and torch.cuda.get_device_capability(device)[0] in (9, 10)
        and has_kernels("grouped products on GPUs")
    )


def packed_attention(qkv: Tensor, starts: Tensor, longest: int) -> Tensor:
    """Attention within packed sequences, without padding (FlashAttention, Dao 2023, arXiv:2307.08691).

    qkv: (tokens, 3, heads, size), query, key and value of each token.
    starts: (sequences + 1,) int32, the first row of each sequence, then the number of tokens.
    longest: number of tokens of the longest sequence, or more.
    Returns (tokens, heads, size).
    """
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = qkv.unbind(1)
    attended = varlen_attn(q, k, v, starts, starts, longest, longest)
    return cast(Tensor, attended)  # a tuple only with `return_aux`


def grouped_product(x: Tensor, weights: Tensor, stops: Tensor) -> Tensor:
    """Multiply each group of neighbouring rows with the matrix of the group.

    x: (rows, d_in); weights: (groups, d_in, d_out); stops: (groups,) int32, the row after each group.
    Returns (rows, d_out).
    """
    multiply: Callable[..., Tensor] = torch.nn.functional.grouped_mm
    return multiply(x, weights, offs=stops)


class Int8Weight:
    """A weight rounded to int8, with one scale for each output.

    weight: (d_out, d_in) float32; scale: (d_out,) float64.
    """

    __slots__ = ("_multiply", "_packed")

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        zero = torch.zeros(len(weight), dtype=torch.int64)
        with warnings.catch_warnings():
            # torch warns that quantised tensors will be removed. The kernels of torchao that replace them are far
            # slower on x86 CPUs (`_int_mm`, docs/performance.md).
            warnings.filterwarnings("ignore", "torch.quantize_per_tensor")
            rounded = torch.quantize_per_channel(weight.float(), scale, zero, 0, torch.qint8)
        self._packed: Any = torch.ops.quantized.linear_prepack(rounded, None)
        self._multiply: Callable[..., Tensor] = (
            torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default
        )

    def product(self, x: Tensor, levels: int) -> Tensor:
        """Return x W^T, (tokens, d_out) float32; x: (tokens, d_in) from 0 to 1, rounded here to `levels` steps."""
        return self._multiply(x, 1 / levels, 0, self._packed)

    def rounded(self) -> Tensor:
        """Return the rounded weight, (d_out, d_in) float32."""
        weight: Tensor = torch.ops.quantized.linear_unpack(self._packed)[0]
        return weight.dequantize()
