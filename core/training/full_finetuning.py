"""Method `full`: trains all weights of the encoder, as a baseline to compare adapters with; stores nothing.

The model is transformers' `AutoModel` over padded batches, with the head and the loss of the task. It runs in mixed
precision if the backbone is in bf16. Data, epochs, metrics and report are the same as for an adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onetrunk.adapters.methods.lora import Lora
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.rng import Randomness
from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.backbones.transformers_encoder import build_model
from onetrunk.core.errors import UsageError
from onetrunk.core.inference.adapter import Adapter, build_head
from onetrunk.core.inference.logits import LogitsRequest, compute_logits
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Labels, Rows, TaskSpec
from onetrunk.core.training.encoded_dataset import EncodedDataset
from onetrunk.core.training.evaluation import dry_run
from onetrunk.core.training.pipeline import (
    TrainJob,
    TrainResult,
    check_trainable,
    encode_splits,
    result_of,
    with_plugins,
)
from onetrunk.core.training.run_state import TrainingRun, planned
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.trainable import Trainable
from onetrunk.core.trunk.packing import PART_TOKENS, pack
from onetrunk.core.trunk.padded import PaddedTrunk


class WholeModel(Trainable):
    """A trainable copy of the whole encoder, with its head."""

    def __init__(self, spec: TaskSpec, labels: Labels, backbone: Backbone, settings: TrainSettings) -> None:
        self.pooling = settings.chosen_pooling(backbone.pooling)
        randomness = Randomness(settings.seed, backbone.device)
        with randomness.as_global():
            head = build_head(spec, backbone, labels, self.pooling, settings.dropout)
        copies = {name: tensor.clone() for name, tensor in backbone.read_tensors().items()}
        model = build_model(backbone.config, copies, backbone.device).requires_grad_(True)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = settings.dropout
        self._model = _InPrecision(model, backbone.dtype)
        self._trunk = PaddedTrunk(self._model, backbone.config)
        super().__init__(spec, labels, settings, randomness, head, list(model.parameters()))

    def forward(self, texts: Sequence[Encoded], most: int) -> tuple[Tensor, Rows]:
        """Run `texts` in training mode; return the hidden states (T, H) and the positions of the texts in them.

        most: the largest number of tokens that run at once.
        """
        packed = pack(texts, [0] * len(texts), most).to(self._trunk.device)
        self._model.train()
        with self.randomness.as_global():
            return self._trunk.forward(packed, {}), packed.rows(0, len(texts))

    def logits(self, dataset: EncodedDataset) -> list[np.ndarray]:
        """Return the logits of each example, with the current weights."""
        self._model.eval()
        adapter = Adapter("full", self.spec, self.labels, self.pooling, Lora({}), self.head.eval(), {})
        jobs = [LogitsRequest(encoded, 0) for encoded in dataset.encoded]
        return compute_logits(self._trunk, [adapter], jobs)


class _InPrecision(nn.Module):
    """A float32 model that computes under autocast to `dtype`."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        """Return the output of the model. Autocast is set here because it holds for one thread only."""
        mixed = self.dtype != torch.float32
        with torch.autocast(input_ids.device.type, self.dtype, enabled=mixed):
            return self.model(input_ids=input_ids, attention_mask=attention_mask)


def train_full(host: PluginHost, job: TrainJob, backbone: Backbone) -> TrainResult:
    """Train a copy of the whole encoder for `job`. Returns the result; nothing is stored.

    The backbone is left unchanged. Raises UsageError for a job that starts from an adapter and for a backbone in
    int8, and the exception that ended the run.
    """
    check_trainable(backbone)
    if job.start is not None:
        raise UsageError(f"method 'full' cannot start from {job.start.ref}, which is an adapter")
    spec, settings = host.task(job.task), job.settings
    splits = encode_splits(spec, backbone, job.data)
    train, dev = splits["train"], splits["dev"]
    model = WholeModel(spec, job.data.labels, backbone, planned(settings, train))
    run = TrainingRun(job.name, model, train, dev, with_plugins(job.callback, host))
    dry_run(model, dev)
    while not run.finished:
        texts = [train.encoded[i] for i in run.batch]
        hidden, rows = model.forward(texts, max(run.batch_tokens, PART_TOKENS))
        loss = run.loss(hidden, rows)
        # Batches of several parts are checkpointed: backward repeats their forward pass, which draws dropout.
        with model.randomness.as_global():
            loss.backward()
        run.advance(float(loss.detach()))
    return replace(result_of(run.result(), splits, backbone), notes=job.data.notes)
