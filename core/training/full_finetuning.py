"""Training method `full`: trains all weights of an encoder, to compare adapters with the result; stores nothing.

The encoder is a model of transformers that runs over padded batches, in mixed precision if the backbone is in bf16.
The data, the head, the loss, the epochs and the metrics are the same as for an adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from onetrunk.adapters.methods.lora import Lora
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.backbones.transformers_encoder import build_model
from onetrunk.core.errors import UsageError
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Labels, Rows, TaskSpec
from onetrunk.core.tasks.guarded_calls import configured
from onetrunk.core.training.job import TrainJob, TrainResult, encode_splits, result_of, with_plugins
from onetrunk.core.training.pipeline import check_trainable
from onetrunk.core.training.run_state import TrainingRun, planned
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.trainable import Trainable
from onetrunk.core.trunk.packing import PART_TOKENS, pack
from onetrunk.core.trunk.padded import PaddedTrunk


class WholeModel(Trainable):
    """A trainable copy of the whole encoder, with its head."""

    def __init__(self, spec: TaskSpec, labels: Labels, backbone: Backbone, settings: TrainSettings) -> None:
        super().__init__(spec, labels, backbone, settings, backbone.device)
        copies = {name: tensor.clone() for name, tensor in backbone.read_tensors().items()}
        model = build_model(backbone.config, copies, backbone.device).requires_grad_(True)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = settings.dropout
        self._model = _InPrecision(model, backbone.dtype)
        self.trunk = PaddedTrunk(self._model, backbone.config)
        self.weights = list(model.parameters())

    def forward(self, texts: Sequence[Encoded], most: int) -> tuple[Tensor, Rows]:
        """Return the hidden states of `texts`, (tokens, hidden size), and the positions of the texts in them.

        The encoder runs in training mode, with dropout. most: the largest number of tokens that it runs at once.
        """
        packed = pack(texts, [0] * len(texts), most, self.trunk.device)
        self._model.train()
        with self.randomness.as_global():
            return self.trunk.forward(packed, {}), packed.rows(0, len(texts))

    def adapter(self, ref: str, settings: dict[str, object] | None = None) -> Adapter:
        """Return the head as an adapter without LoRA weights, and put the encoder into evaluation mode."""
        self._model.eval()
        head = self.head.eval()
        return Adapter(ref, self.spec, self.labels, self.pooling, Lora({}), head, settings or {})


class _InPrecision(nn.Module):
    """A float32 model that computes in mixed precision: under torch's autocast to `dtype`."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        """Return the output of the model. Autocast is set in each call because it holds for one thread only."""
        mixed = self.dtype != torch.float32
        with torch.autocast(input_ids.device.type, self.dtype, enabled=mixed):
            return self.model(input_ids=input_ids, attention_mask=attention_mask)


def train_full(host: PluginHost, job: TrainJob, backbone: Backbone) -> TrainResult:
    """Train a copy of the whole encoder for `job` and return the result. Nothing is stored or changed.

    Raises UsageError for a job that starts from an adapter and for a backbone in int8, and any exception of the
    run.
    """
    check_trainable(backbone)
    if job.start is not None:
        raise UsageError(f"method 'full' cannot start from {job.start.ref}, which is an adapter")
    spec, settings = configured(host.task(job.task), job.settings.options), job.settings
    splits, notes = encode_splits(spec, backbone, job.data, settings.max_windows)
    train, dev = splits["train"], splits["dev"]
    model = WholeModel(spec, job.data.labels, backbone, planned(settings, train))
    run = TrainingRun(job.name, model, train, dev, with_plugins(job.callback, host))
    for note in notes:
        run.note(note)
    model.trial(dev, splits.get("test"))
    while not run.finished:
        texts = [train.encoded[i] for i in run.batch]
        hidden, rows = model.forward(texts, max(run.batch_tokens, PART_TOKENS))
        loss = run.loss(hidden, rows)
        # The backward pass of a long batch repeats its forward pass, which draws random numbers for dropout.
        with model.randomness.as_global():
            loss.backward()
        run.advance(float(loss.detach()))
    result = result_of(run.result(), splits, backbone)
    return replace(result, notes=(*job.data.notes, *result.run.notes, *result.notes))
