"""How many shapes of products a trunk in bf16 has on a CPU, whatever lengths its texts have.

oneDNN keeps half a MiB for each of them as long as the process lives.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.core.backbones.kernels import has_native_bf16
from onetrunk.core.testing import TinyShape, tiny_backbone
from onetrunk.core.trunk.packed import rounded_up

MOST_TOKENS = 128
PRODUCTS = 4
"""Frozen products of a layer; those of all layers have the same shapes."""

RUN = """
import sys
import numpy as np
import torch
from onetrunk.adapters.methods.flat_layout import flattened
from onetrunk.adapters.methods.lora import init_lora
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.trunk.packing import pack
from onetrunk.core.trunk.build import trunk_of

backbone = Backbone.load(sys.argv[1], device="cpu", dtype="bf16")
trunk = trunk_of(backbone)
lora = init_lora(backbone.linear_shapes, rank=4, alpha=4.0)
adapters = {slot: flattened(lora, trunk.device, trunk.adapter_dtype) for slot in range(3)}
encoder = backbone.encoder
print("loaded", flush=True)
with torch.inference_mode():
    for words in range(1, int(sys.argv[2]) // 2):
        texts = ["a " * words, "a " * (1 + words // 3), "a " * (1 + words // 7)]
        encoded = encoder.encode(texts, [()] * 3)
        trunk.forward(pack(encoded, [0, 1, 2]), adapters)
"""


def made_by_onednn(folder: Path) -> list[str]:
    """Return the kinds of what oneDNN makes anew while a trunk in bf16 runs batches of many lengths."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder), str(MOST_TOKENS)],
        env={**os.environ, "ONEDNN_VERBOSE": "profile_create"},
        capture_output=True,
        text=True,
        check=True,
    )
    _, _, during = done.stdout.partition("loaded\n")
    lines = [line.split(",") for line in during.splitlines() if ",create:cache_miss," in line]
    return [line[5] for line in lines]


@pytest.mark.skipif(not has_native_bf16(torch.device("cpu")), reason="this CPU has no bf16")
def test_varied_texts_in_bf16_have_few_shapes_of_products(tmp_path: Path) -> None:
    kinds = made_by_onednn(tiny_backbone(tmp_path / "backbone", shape=TinyShape(positions=MOST_TOKENS)))
    sizes = len({rounded_up(rows) for rows in range(1, 2 * MOST_TOKENS)})
    assert kinds.count("matmul") <= PRODUCTS * sizes
    assert len(kinds) <= (PRODUCTS + 1) * sizes  # the activation is the fifth


@given(st.integers(0, 10_000))
def test_rows_are_rounded_up_once_and_by_an_eighth_at_most(rows: int) -> None:
    rounded = rounded_up(rows)
    assert rows <= rounded <= max(rows + 3, rows * 9 / 8)
    assert rounded_up(rounded) == rounded


def test_rows_have_few_numbers() -> None:
    assert len({rounded_up(rows) for rows in range(1, 513)}) == 48
