"""The metrics of a run on dev and test, always with the decoder as it would be stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onetrunk.core.errors import TaskSpecError
from onetrunk.core.tasks import JSONObject
from onetrunk.core.tasks.guarded_calls import json_of
from onetrunk.core.training.encoded_dataset import EncodedDataset
from onetrunk.core.training.trainable import Trainable


@dataclass(frozen=True, slots=True)
class DevResult:
    """The settings of the decoder, calibrated on dev ({} for a task without), and the metrics on dev with them."""

    decoder: JSONObject
    metrics: JSONObject


def evaluate_dev(trainable: Trainable, dev: EncodedDataset, logits: Sequence[np.ndarray]) -> DevResult:
    """Calibrate the decoder on dev and return the metrics of dev with it.

    Both use the same rows, so that the metrics of a calibrated decoder are optimistic, by the same rule in each
    epoch. A part of dev held out for the metrics would make both noisier; test tells the honest figure.
    Raises TaskSpecError for what the task raises, and where it does not give JSON.
    """
    decoder: JSONObject = {}
    if trainable.spec.calibrate is not None:
        decoder = json_of(trainable.spec, "calibrate", dev.examples, logits, trainable.labels)
    return DevResult(decoder, evaluate(trainable, dev, logits, decoder))


def evaluate(
    trainable: Trainable, dataset: EncodedDataset, logits: Sequence[np.ndarray], decoder: JSONObject
) -> JSONObject:
    """Return the metrics of `dataset`, decoded with the settings `decoder`. Raises TaskSpecError."""
    return json_of(trainable.spec, "evaluate", dataset.examples, logits, trainable.labels, decoder)


def dry_run(trainable: Trainable, dev: EncodedDataset) -> None:
    """Calibrate and evaluate on dev with made-up logits, before hours of training are lost to a fault in either.

    Raises TaskSpecError as `evaluate_dev` does.
    """
    try:
        evaluate_dev(trainable, dev, _made_up_logits(trainable, dev))
    except TaskSpecError as error:
        tried = "tried before training, on dev with made-up logits"
        raise TaskSpecError(error.task, [*error.faults, tried]) from error


def _made_up_logits(trainable: Trainable, dataset: EncodedDataset) -> list[np.ndarray]:
    """Return random logits of the shape that the head gives each example; the first is run to see it."""
    one = EncodedDataset(dataset.examples[:1], dataset.encoded[:1], dataset.targets[:1])
    (seen,) = trainable.logits(one)
    draw = np.random.default_rng(0)
    return [
        draw.standard_normal((trainable.spec.units(example), *seen.shape[1:]), dtype=np.float32)
        for example in dataset.examples
    ]
