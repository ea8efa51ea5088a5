"""Products with pretrained weights in int8 on x86 CPUs: two thirds of the time of float32, with a small error.

The weight is rounded once, with one scale for each output. The input is rounded in each product, with a scale and a
zero point for each token (vector-wise quantisation, Dettmers et al. 2022, arXiv:2208.07339, section 2.1), so that a
text has the same result in any batch. If one column of the input has large values, few levels remain for the other
columns. Columns are therefore multiplied by factors, and those of the weight are divided by them (SmoothQuant, Xiao
et al. 2022, arXiv:2211.10438). Adapters and heads compute in floating point, with the input before rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from onetrunk.core.backbones.kernels import Int8Weight, has_vnni

_WEIGHT_LEVELS = 127
_TINY = 1e-30
"""Smallest divisor of a row, for rows of zeros."""
_STRENGTHS = (0.35, 0.5, 0.65, 0.8)
"""Candidates for SmoothQuant's alpha, which says how much of the columns' range moves into the weight."""
_QUANTILE = 0.99
"""This quantile counts as a column's largest value: the maximum of few texts says little about other texts."""
_SMALL = 1e-5
"""Smallest divisor of a column, for columns of zeros."""
_LEAST_GAIN = 0.8
"""Columns have factors only if these bring the expected error below this share of the error without factors."""


class Int8Linear:
    """The product x W^T + b in int8.

    weight: (d_out, d_in); bias: (d_out,), both float32.
    inputs: (tokens, d_in) float32, typical inputs of the product. The factors of the columns are computed from
        them. The mean error on them is subtracted from the bias (Nagel et al. 2019, arXiv:1906.04721, section 4.2).
    """

    __slots__ = ("_bias", "_levels", "_smoothing", "_sums", "_weight")

    def __init__(self, weight: Tensor, bias: Tensor, inputs: Tensor) -> None:
        exact = F.linear(inputs, weight, bias)
        # Without VNNI the sum of two products of bytes must fit into 16 bits: inputs then have seven bits.
        self._levels = 255 if has_vnni() else 127
        self._smoothing = smoothing(weight, inputs, self._levels)
        if self._smoothing is not None:
            weight = weight / self._smoothing
        scale = weight.abs().amax(1).clamp_min(_TINY).double() / _WEIGHT_LEVELS
        self._weight = Int8Weight(weight, scale)
        self._sums = self._weight.rounded().sum(1)
        self._bias = bias
        self._bias = bias + (exact - self(inputs)).mean(0)

    def __call__(self, x: Tensor) -> Tensor:
        """Map (tokens, d_in) float32 to (tokens, d_out) float32."""
        if self._smoothing is not None:
            x = x * self._smoothing
        # x = low + span * u, where u is from 0 to 1 and is rounded. `amin` and `amax` are faster than `aminmax`.
        low = x.amin(1, keepdim=True)
        span = x.amax(1, keepdim=True).sub_(low).clamp_min_(_TINY)
        y = self._weight.product((x - low).div_(span), self._levels)
        return torch.addcmul(self._bias, y, span, out=y).addcmul_(low, self._sums)

    def back(self, grad: Tensor) -> Tensor:
        """Raise NotImplementedError: int8 products have no gradient; grad: (tokens, d_out)."""
        raise NotImplementedError("a trunk in int8 serves only; train in fp32 or bf16")

    def tensors(self) -> dict[str, Tensor]:
        """Return the rounded weight (d_out, d_in), the bias (d_out,) and the smoothing (d_in,), if any, by name."""
        named = {"weight": self._weight.rounded(), "bias": self._bias}
        return named if self._smoothing is None else {**named, "smoothing": self._smoothing}


def smoothing(weight: Tensor, inputs: Tensor, levels: int) -> Tensor | None:
    """Return the factors (d_in,) with the least expected error; None if none helps enough.

    The input's columns are multiplied by the factors, the columns of the weight are divided by them.
    weight: (d_out, d_in).
    inputs: (tokens, d_in), typical inputs.
    levels: number of steps that an input is rounded to.
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
    """Return the mean square error of a token's outputs: that of rounding to a step s is s²/12."""
    steps = (inputs.amax(1) - inputs.amin(1)) / levels
    of_inputs = steps.square().mean() * weight.square().sum()
    of_weights = (weight.abs().amax(1) / _WEIGHT_LEVELS).square().sum() * inputs.square().sum(1).mean()
    return float(of_inputs + of_weights) / 12
