"""Compares the logits of an export with OneTrunk's, for texts of many lengths, each alone and all in one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from onetrunk.adapters.format.artifact import HEAD
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.errors import ExportError
from onetrunk.core.inference.adapter import Adapter, build_head
from onetrunk.core.inference.logits import LogitsRequest, compute_logits, encode_examples
from onetrunk.core.tasks import Example, Rows
from onetrunk.core.trunk.build import trunk_of

Run = Callable[[Tensor, Tensor], "np.ndarray[Any, Any]"]
"""Runs an export: (input_ids, attention_mask), each (texts, length) int64, → logits.

If the head is stored in a separate file, it returns hidden states (texts, length, hidden size) instead.
"""

_LENGTHS = (1, 2, 3, 5, 9, 17, 33, 65, 129)  # in words


def compare(adapter: Adapter, backbone: Backbone, run: Run, aside: Path) -> tuple[int, float]:
    """Return the number of texts that were compared, and the largest difference between two logits.

    The texts are the example texts of the task (`TaskSpec.probe`), and texts of many lengths made of their words.

    run: runs the export.
    aside: the folder with the files of the export.
    Raises ExportError if the shapes of the logits or the ids of the tokenizers differ.
    """
    words = " ".join(adapter.spec.probe).split() or ["a"]
    made = [" ".join(islice(cycle(words), length)) for length in _LENGTHS]
    examples = [adapter.spec.unlabelled(text) for text in (*adapter.spec.probe, *made)]
    pairs = zip(examples, encode_examples(backbone.encoder, adapter.spec, examples), strict=True)
    whole = [(example, own) for example, own in pairs if len(own.windows) == 1]
    texts = [own for _, own in whole]
    jobs = [LogitsRequest(own, 0) for own in texts]
    trunk = trunk_of(backbone, torch.float32)
    ours = compute_logits(trunk, [adapter], jobs)
    _check_tokenizer(backbone, aside, [example for example, _ in whole])
    finish = _finish(adapter, backbone, aside)
    worst = 0.0
    for batch in ([*range(len(texts))], *([i] for i in range(len(texts)))):
        rows = run(*_padded([texts[i] for i in batch], backbone))
        for row, i in zip(rows, batch, strict=True):
            found = finish(row, texts[i])
            if found.shape != ours[i].shape:
                raise ExportError(
                    f"the logits of the export have the shape {found.shape}, OneTrunk's have {ours[i].shape}; "
                    "nothing was exported"
                )
            worst = max(worst, float(np.nan_to_num(np.abs(found - ours[i]), nan=np.inf).max(initial=0.0)))
    return len(texts), worst


def _padded(texts: Sequence[Encoded], backbone: Backbone) -> tuple[Tensor, Tensor]:
    """Return input_ids and attention_mask, both (texts, length) int64."""
    ids = [torch.from_numpy(own.windows[0]).long() for own in texts]
    padding = float(backbone.config.pad_token_id or 0)
    padded = pad_sequence(ids, batch_first=True, padding_value=padding)
    return padded, pad_sequence([torch.ones_like(own) for own in ids], batch_first=True)


def _finish(adapter: Adapter, backbone: Backbone, aside: Path) -> Callable[[Any, Encoded], Any]:
    """Return a function from what the export returns for one text to the logits of the text, (units, labels)."""
    if not (aside / HEAD).exists():
        if adapter.spec.level == "token":
            return lambda rows, own: rows[own.words]
        return lambda row, _own: row[None]
    from safetensors.torch import load_file

    head = build_head(adapter.spec, backbone, adapter.labels, adapter.pooling).eval()
    head.load_state_dict(load_file(aside / HEAD))

    @torch.inference_mode()
    def finish(states: Any, own: Encoded) -> Any:
        rows = Rows(torch.tensor([0, own.rows]), torch.from_numpy(own.words))
        return head(torch.from_numpy(states[: own.rows]), rows).numpy()

    return finish


def _check_tokenizer(backbone: Backbone, aside: Path, examples: Sequence[Example]) -> None:
    """Raise ExportError if the exported tokenizer, if there is one, gives other ids than OneTrunk's."""
    from transformers import AutoTokenizer

    if not (aside / "tokenizer.json").exists():
        return
    tokenizer = AutoTokenizer.from_pretrained(aside, use_fast=True, trust_remote_code=False)
    texts = [example.text for example in examples]
    for text, own in zip(texts, backbone.encoder.encode(texts, [()] * len(texts)), strict=True):
        if len(own.windows) == 1 and tokenizer(text)["input_ids"] != own.windows[0].tolist():
            raise ExportError(
                f"the exported tokenizer gives other token ids than OneTrunk's for {text[:60]!r}; "
                "nothing was exported"
            )
