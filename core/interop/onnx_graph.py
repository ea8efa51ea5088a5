"""Export to ONNX: one graph of the encoder, with the adapter merged in, and the head.

onnx, onnxruntime and onnxscript (the extra `[onnx]`) are imported only when they are used.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.checkpoint import first_line
from onetrunk.core.backbones.transformers_encoder import build_model
from onetrunk.core.errors import ExportError, UsageError
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.interop.merging import merged_weights
from onetrunk.core.tasks import Rows

REQUIRED = ("onnx", "onnxruntime", "onnxscript")
"""The packages of the extra `[onnx]`."""
_MOST_TEXTS = 4096
"""The largest batch of a graph, in texts."""
_MOST_INSIDE = 3 * 2**29
"""Larger weights, in bytes, are written to a second file: an ONNX file has at most 2 GB."""


def check_installed(required: Sequence[str] = REQUIRED) -> None:
    """Raise UsageError if the extra `[onnx]` is not installed."""
    if missing := [name for name in required if find_spec(name) is None]:
        raise UsageError(f"ONNX needs {', '.join(missing)}: pip install 'onetrunk[onnx]'")


def write_onnx(adapter: Adapter, backbone: Backbone, file: Path) -> None:
    """Write the graph to `file`.

    Inputs: input_ids, attention_mask and, if the encoder has several token types, token_type_ids, each (texts,
        length) int64.
    Output: logits, (texts, length, labels) float32 for a task of words, else (texts, labels) float32.
    Raises ExportError for a head that only its plugin defines, and if torch cannot export the graph.
    """
    if (recipe := adapter.format.recipe) is None:
        raise ExportError(
            f"{adapter.ref}: only the plugin of task {adapter.spec.name!r} defines its head, so it cannot be "
            "exported to ONNX; --format peft exports its weights"
        )
    weights = merged_weights(backbone, adapter.lora)
    # Eager attention gives a smaller graph than SDPA, which leaves operators for the mask in it.
    encoder = build_model(backbone.config, weights, torch.device("cpu"), attention="eager")
    model = _EncoderWithHead(encoder, copy.deepcopy(adapter.head).cpu(), recipe).eval()
    several = int(getattr(backbone.config, "type_vocab_size", None) or 0) > 1
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if several else [])]
    ids = torch.full((3, 7), backbone.encoder.unknown)
    ones, zeros = torch.ones_like(ids), torch.zeros_like(ids)
    examples = {"input_ids": ids, "attention_mask": ones, "token_type_ids": zeros}
    longest = int(backbone.config.max_position_embeddings) - backbone.first_position
    axes = {0: torch.export.Dim("texts", max=_MOST_TEXTS), 1: torch.export.Dim("length", min=2, max=longest)}
    size = sum(tensor.numel() for tensor in weights.values())
    try:
        with _quiet_exporter(), torch.no_grad():
            torch.onnx.export(
                model,
                tuple(examples[name] for name in names),
                file,
                dynamo=True,
                external_data=4 * size > _MOST_INSIDE,
                verbose=False,
                input_names=names,
                output_names=["logits"],
                dynamic_shapes=dict.fromkeys(names, axes),
            )
    except Exception as error:  # the exporter may raise any exception
        raise ExportError(
            f"torch cannot export {backbone.family.model_type} to ONNX: {first_line(error)}; use --format merged"
        ) from error


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Hide the exporter's warnings and log messages, such as those about optional packages."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def open_onnx(file: Path) -> Callable[[Tensor, Tensor], np.ndarray]:
    """Return a function (input_ids, attention_mask), each (texts, length) int64, → logits that runs `file`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = {each.name for each in session.get_inputs()}

    def run(ids: Tensor, mask: Tensor) -> np.ndarray:
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
        found: np.ndarray = session.run(None, {name: inputs[name].numpy() for name in names})[0]
        return found

    return run


class _EncoderWithHead(nn.Module):
    """Encoder and head over padded texts. The exporter requires that arguments and result are tensors."""

    def __init__(self, encoder: nn.Module, head: Any, recipe: str) -> None:
        super().__init__()
        self.encoder, self.head, self.recipe = encoder, head, recipe

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden: Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types)[0]
        logits: Tensor
        if self.recipe in ("token", "words"):
            logits = self.head.classifier(hidden)  # (texts, length, labels)
        elif self.recipe == "mean":
            keep = attention_mask.to(hidden.dtype)[..., None]
            logits = self.head.classifier((hidden * keep).sum(1) / keep.sum(1))  # (texts, labels)
        else:
            first = hidden[:, 0]  # (texts, hidden size), which the head reads as texts of one token each
            offsets = torch.arange(first.shape[0] + 1)
            logits = self.head(first, Rows(offsets, offsets[:0]))
        return logits
