"""Frozen products in int8, on an x86 CPU: about two thirds of the time of float32, for a small error.

The weight is rounded once, with a scale for each output. The input is rounded as it comes, with a scale and a zero
point for each token (vector-wise quantisation, Dettmers et al. 2022, arXiv:2208.07339, section 2.1), so that a text
has the same result in any batch. Input columns with large values would leave few levels to the others: they are
divided by a factor, by which the weight is multiplied (SmoothQuant, Xiao et al. 2022, arXiv:2211.10438). Adapters,
heads and all else stay in floating point, and multiply the input as it was.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_WEIGHT_LEVELS = 127
_TINY = 1e-30
"""Stands in for the largest of a row of zeros."""
_OPERATOR = "linear_with_input_q_dq_qweight_dq_output_fp32"
"""Rounds a float32 input (scale, zero point) on its way into the product; returns float32."""
_STRENGTHS = (0.35, 0.5, 0.65, 0.8)
"""SmoothQuant's alpha: how much of the range of the input's columns moves into the weight."""
_QUANTILE = 0.99
"""Which of a column's values counts as its largest: a single one says little of other texts."""
_SMALL = 1e-5
"""Stands in for the size of a column of zeros."""
_LEAST_GAIN = 0.8
"""Smoothing is kept where it brings the expected error below this share of the error without it."""


class Int8Linear:
    """The product x W^T + b of a weight (d_out, d_in) and a bias (d_out,), in torch's own kernels for int8.

    inputs: (tokens, d_in) float32, such as the product will have. They decide how columns are smoothed; the mean
    error on them is taken off the bias (Nagel et al. 2019, arXiv:1906.04721, section 4.2).
    """

    __slots__ = ("_bias", "_levels", "_multiply", "_packed", "_smoothing", "_sums")

    def __init__(self, weight: Tensor, bias: Tensor, inputs: Tensor) -> None:
        exact = F.linear(inputs, weight, bias)
        # Without VNNI, two products of bytes are added in 16 bits; seven bits of the input leave them room.
        self._levels = 255 if torch.cpu._is_vnni_supported() else 127
        self._smoothing = smoothing(weight, inputs, self._levels)
        if self._smoothing is not None:
            weight = weight / self._smoothing
        scale = weight.abs().amax(1).clamp_min(_TINY).double() / _WEIGHT_LEVELS
        zero = torch.zeros(len(weight), dtype=torch.int64)
        with warnings.catch_warnings():
            # torch means to drop its quantised tensors; what torchao uses in their place is far slower on this
            # kind of CPU (`_int_mm`, docs/performance.md).
            warnings.filterwarnings("ignore", "torch.quantize_per_tensor")
            rounded = torch.quantize_per_channel(weight.float(), scale, zero, 0, torch.qint8)
        self._packed: Any = torch.ops.quantized.linear_prepack(rounded, None)
        self._multiply: Any = getattr(torch.ops.quantized, _OPERATOR).default
        self._sums = rounded.dequantize().sum(1)
        self._bias = bias
        self._bias = bias + (exact - self(inputs)).mean(0)

    def __call__(self, x: Tensor) -> Tensor:
        """Map (tokens, d_in) float32 to (tokens, d_out) float32."""
        if self._smoothing is not None:
            x = x * self._smoothing
        # x = low + span * (what is rounded, in 0 to 1). Two passes are faster than `aminmax`.
        low = x.amin(1, keepdim=True)
        span = x.amax(1, keepdim=True).sub_(low).clamp_min_(_TINY)
        y: Tensor = self._multiply((x - low).div_(span), 1 / self._levels, 0, self._packed)
        return torch.addcmul(self._bias, y, span, out=y).addcmul_(low, self._sums)

    def back(self, grad: Tensor) -> Tensor:
        """Refuse: nothing trains through rounded weights."""
        raise NotImplementedError("the trunk is in int8, which serves only; train in fp32 or bf16")

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights by name, as they are multiplied, and the factors of the input's columns."""
        rounded, _ = torch.ops.quantized.linear_unpack(self._packed)
        named = {"weight": rounded.dequantize(), "bias": self._bias}
        return named if self._smoothing is None else {**named, "smoothing": self._smoothing}


def smoothing(weight: Tensor, inputs: Tensor, levels: int) -> Tensor | None:
    """Return the factors (d_in,) for the input's columns with the least expected error, None for none.

    weight: (d_out, d_in), which is divided by them; inputs: (tokens, d_in); levels: that an input is rounded to.
    """
    rank = max(1, int(_QUANTILE * len(inputs)))
    large = inputs.abs().kthvalue(rank, dim=0).values.clamp_min(_SMALL)  # `quantile` takes far longer
    length = weight.norm(dim=0).clamp_min(_SMALL)
    found, least = None, _LEAST_GAIN * _expected_error(weight, inputs, levels)
    for strength in _STRENGTHS:
        factors = length ** (1 - strength) / large**strength
        error = _expected_error(weight / factors, inputs * factors, levels)
        if error < least:
            found, least = factors, error
    return found


def _expected_error(weight: Tensor, inputs: Tensor, levels: int) -> float:
    """Return the mean square error of a token's outputs; a number rounded to a step s errs by s²/12."""
    steps = (inputs.amax(1) - inputs.amin(1)) / levels
    of_inputs = steps.square().mean() * weight.square().sum()
    of_weights = (weight.abs().amax(1) / _WEIGHT_LEVELS).square().sum() * inputs.square().sum(1).mean()
    return float(of_inputs + of_weights) / 12
