"""Method `full`: the baseline to compare adapters with, in which every weight of the encoder trains; never stored.

The model is plain: `AutoModel` over padded batches with the task's head and loss, in mixed precision where the
backbone is in bf16. Data, epochs, metrics and the report are those of an adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from onetrunk.core.training.encoded_dataset import Corpus
from onetrunk.core.training.evaluation import rehearse
from onetrunk.core.training.pipeline import (
    TrainJob,
    TrainResult,
    check_countable,
    check_trainable,
    corpora_of,
    result_of,
    with_plugins,
)
from onetrunk.core.training.run_state import Run, planned
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.trainable import Trainable
from onetrunk.core.trunk.packing import PART_TOKENS, pack
from onetrunk.core.trunk.padded import PaddedTrunk


class WholeModel(Trainable):
    """A copy of the whole encoder that trains with its head."""

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
        """Return the hidden states (rows, width) of `texts` in training, and how they lie.

        most: tokens that run at once.
        """
        packed = pack(texts, [0] * len(texts), most).to(self._trunk.device)
        self._model.train()
        with self.randomness.as_global():
            return self._trunk.forward(packed, {}), packed.rows(0, len(texts))

    def logits(self, corpus: Corpus) -> list[np.ndarray]:
        """Return the logits of `corpus` in its order, with the present weights."""
        self._model.eval()
        adapter = Adapter("full", self.spec, self.labels, self.pooling, Lora({}), self.head.eval(), {})
        jobs = [LogitsRequest(encoded, 0) for encoded in corpus.encoded]
        return compute_logits(self._trunk, [adapter], jobs)


class _InPrecision(nn.Module):
    """A model in float32 whose products run in `dtype`."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        """Return the model's output; each thread has an autocast of its own."""
        mixed = self.dtype != torch.float32
        with torch.autocast(input_ids.device.type, self.dtype, enabled=mixed):
            return self.model(input_ids=input_ids, attention_mask=attention_mask)


def train_full(host: PluginHost, job: TrainJob, backbone: Backbone) -> TrainResult:
    """Train a copy of the whole encoder as `job` says; return what `train_adapter` returns, with nothing stored.

    The backbone stays as it is. Raises UsageError for a job that starts from an adapter or a backbone in int8, and
    what ends the run.
    """
    check_trainable(backbone)
    if job.start is not None:
        raise UsageError(f"method 'full' cannot start from {job.start.ref}, which is an adapter")
    spec, settings = host.task(job.task), job.settings
    if settings.class_weights == "balanced":
        check_countable(spec, job.data)
    corpora = corpora_of(spec, backbone, job.data)
    train, dev = corpora["train"], corpora["dev"]
    model = WholeModel(spec, job.data.labels, backbone, planned(settings, train))
    run = Run(job.name, model, train, dev, with_plugins(job.listener, host))
    rehearse(model, dev)
    while not run.finished:
        texts = [train.encoded[i] for i in run.batch]
        hidden, rows = model.forward(texts, max(run.batch_tokens, PART_TOKENS))
        loss = run.loss(hidden, rows)
        with (
            model.randomness.as_global()
        ):  # of a batch of several parts, the forward pass runs again, with dropout
            loss.backward()
        run.advance(float(loss.detach()))
    return result_of(run.result(), corpora, backbone)
