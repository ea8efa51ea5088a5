"""Short real training runs without a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from onetrunk.core.backbones.backbone import Backbone, fingerprint
from onetrunk.core.tasks import Example, JSONObject, Labels, TaskSpec
from onetrunk.core.training.encoded_dataset import EncodedDataset
from onetrunk.core.training.loop import train_together
from onetrunk.core.training.run_state import FinishedRun, TrainingRun, planned
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.trainable import TrainableAdapter
from onetrunk.core.trunk.build import trunk_of

SHORT = TrainSettings(epochs=4, lr=0.01, rank=4, batch_tokens=64)


def run(
    spec: TaskSpec, dataset: EncodedDataset, backbone: Backbone, settings: TrainSettings, **options: Any
) -> FinishedRun[TrainableAdapter]:
    trunk = options.pop("trunk", None) or trunk_of(backbone)
    trainable = TrainableAdapter(
        spec, ("neg", "pos"), backbone, trunk, planned(settings, dataset), options.pop("start", None)
    )
    alone = TrainingRun("x", trainable, dataset, dataset, **options)
    (ended,) = train_together([alone], trunk)
    return ended.result()


def weights_of(trained: FinishedRun[TrainableAdapter]) -> dict[str, torch.Tensor]:
    trainable = trained.trainable
    return {**{str(i): w for i, w in enumerate(trainable.weights)}, **trainable.head.state_dict()}


def same_weights(first: FinishedRun[TrainableAdapter], second: FinishedRun[TrainableAdapter]) -> bool:
    return fingerprint(weights_of(first)) == fingerprint(weights_of(second))


def scored_by(score: Callable[[np.ndarray], float | None]) -> Callable[..., JSONObject]:
    """Return an `evaluate` that looks at nothing but the logits."""

    def evaluate(
        examples: Sequence[Example], logits: Sequence[np.ndarray], labels: Labels, _: JSONObject
    ) -> JSONObject:
        return {"accuracy": score(np.concatenate(logits))}

    return evaluate
