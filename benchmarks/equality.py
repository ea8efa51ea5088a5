"""Whether a variant computes what it should: it is not timed before that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Precision = Literal["fp32", "bf16", "int8"]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an output may be from the right one.

    kind: `largest`, the largest absolute difference; `relative`, the norm of the difference over that of the right
        output.
    """

    kind: Literal["largest", "relative"]
    limit: float


TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance("largest", 1e-4),
    "bf16": Tolerance("relative", 0.02),
    # ONNX Runtime's dynamic quantisation of MiniLM errs by 0.17 without VNNI; the table shows what each run has.
    "int8": Tolerance("relative", 0.25),
}


class WrongOutput(Exception):
    """A variant's output is not what it should be; it is reported, and not timed."""


def error_of(found: Tensor, expected: Tensor, kind: Literal["largest", "relative"]) -> float:
    """Return how far `found` is from `expected`. Raises WrongOutput for another shape or what is not finite."""
    if found.shape != expected.shape:
        raise WrongOutput(f"the output has shape {tuple(found.shape)}, expected {tuple(expected.shape)}")
    if not bool(found.isfinite().all()):
        raise WrongOutput("the output has numbers that are not finite")
    difference = found.double().cpu() - expected.double().cpu()
    if kind == "largest":
        return float(difference.abs().max()) if difference.numel() else 0.0
    return float(difference.norm() / expected.double().norm().clamp(min=1e-30).cpu())


def check(found: Tensor, expected: Tensor, precision: Precision) -> float:
    """Return the error of `found`. Raises WrongOutput where it is more than the precision's tolerance."""
    tolerance = TOLERANCES[precision]
    error = error_of(found, expected, tolerance.kind)
    if error > tolerance.limit:
        raise WrongOutput(f"{tolerance.kind} error {error:.3g}, at most {tolerance.limit:g} is right")
    return error
