"""The ratios that are looked at first: how many times as fast one variant is as another in the same run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RATIOS = (
    ("ours fp32", "peft mixed fp32"),
    ("ours bf16", "peft mixed fp32"),
    ("ours bf16", "peft mixed bf16"),
    ("ours int8", "peft mixed fp32"),
    ("ours fp32", "transformers fp32"),
    ("ours bf16", "transformers fp32"),
    ("ours fp32", "onnx fp32 bucketed"),
    ("ours int8", "onnx int8 bucketed"),
    ("ours fp32", "ours fp32 bare"),
    ("ours bf16", "ours bf16 bare"),
    ("ours int8", "ours int8 bare"),
    ("ours fp32 bare", "floor fp32"),
    ("ours bf16 bare", "floor bf16"),
    ("ours fp32 of 100", "ours fp32 of 3"),
    ("ours fp32 of 1000", "ours fp32 of 3"),
    ("ours bf16 of 1000", "ours bf16 of 3"),
    ("ours fp32 packed", "peft fp32 padded"),
    ("ours bf16 packed", "peft fp32 padded"),
    ("ours bf16 packed", "peft bf16 padded"),
    ("ours fp32 packed", "peft fp32 random"),
    ("ours bf16 packed", "peft fp32 random"),
    ("together", "in a row"),
    ("ours fp32 predict", "pipeline fp32"),
    ("ours bf16 predict", "pipeline fp32"),
    ("ours int8 predict", "pipeline fp32"),
    ("five adapters, last 1", "one adapter"),
    ("five adapters, last 2", "one adapter"),
    ("five adapters, last 3", "one adapter"),
    ("five adapters", "one adapter"),
)
"""(variant, baseline); a pair is shown for each workload that has measured both."""


def ratios(results: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return a row for each workload and pair: the baseline's median time over the variant's."""
    rows = []
    for key, result in results.items():
        variants = result["variants"]
        for name, base in RATIOS:
            if "median" in variants.get(name, {}) and "median" in variants.get(base, {}):
                factor = variants[base]["median"] / variants[name]["median"]
                rows.append([key, f"{name} against {base}", f"{factor:.3f}"])
    return rows
