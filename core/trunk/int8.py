"""Frozen products in int8, on an x86 CPU: about two thirds of the time of float32, for a small error.

The weight is rounded once, with a scale for each output. The input is rounded as it comes, with a scale for each
token (vector-wise quantisation, Dettmers et al. 2022, arXiv:2208.07339, section 2.1), so that a text has the same
result in any batch. Adapters, heads and all else stay in floating point.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

_WEIGHT_LEVELS = 127
_TINY = 1e-30
"""Stands in for the largest of a row of zeros."""
_OPERATOR = "linear_with_input_q_dq_qweight_dq_output_fp32"
"""Rounds a float32 input (scale, zero point) on its way into the product; returns float32."""


class Int8Linear:
    """The product x W^T + b of a weight (d_out, d_in) and a bias (d_out,), in torch's own kernels for int8."""

    __slots__ = ("_bias", "_levels", "_multiply", "_packed")

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        scale = weight.abs().amax(1).clamp_min(_TINY).double() / _WEIGHT_LEVELS
        zero = torch.zeros(len(weight), dtype=torch.int64)
        with warnings.catch_warnings():
            # torch means to drop its quantised tensors; what torchao uses in their place is far slower on this
            # kind of CPU (`_int_mm`, docs/performance.md).
            warnings.filterwarnings("ignore", "torch.quantize_per_tensor")
            rounded = torch.quantize_per_channel(weight.float(), scale, zero, 0, torch.qint8)
        self._packed: Any = torch.ops.quantized.linear_prepack(rounded, None)
        self._multiply: Any = getattr(torch.ops.quantized, _OPERATOR).default
        self._bias = bias
        # Without VNNI, two products of bytes are added in 16 bits; seven bits of the input leave them room.
        self._levels = 127 if torch.cpu._is_vnni_supported() else 63

    def __call__(self, x: Tensor) -> Tensor:
        """Map (tokens, d_in) float32 to (tokens, d_out) float32."""
        # Read twice, which costs less than a copy of the absolute values.
        largest = torch.maximum(x.amax(1, keepdim=True), x.amin(1, keepdim=True).neg_()).clamp_min_(_TINY)
        y: Tensor = self._multiply(x / largest, 1 / self._levels, self._levels + 1, self._packed)
        return torch.addcmul(self._bias, y, largest, out=y)

    def back(self, grad: Tensor) -> Tensor:
        """Refuse: nothing trains through rounded weights."""
        raise NotImplementedError("the trunk is in int8, which serves only; train in fp32 or bf16")

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights by name, as they are multiplied."""
        rounded, _ = torch.ops.quantized.linear_unpack(self._packed)
        return {"weight": rounded.dequantize(), "bias": self._bias}
