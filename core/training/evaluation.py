"""Evaluation of a run on dev and test, with the decoder settings that would be stored."""

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
    """The result of an evaluation on dev.

    decoder: the decoder settings, calibrated on dev; {} for a task without calibration.
    metrics: the metrics on dev with these settings.
    """

    decoder: JSONObject
    metrics: JSONObject


def evaluate_dev(trainable: Trainable, dev: EncodedDataset, logits: Sequence[np.ndarray]) -> DevResult:
    """Calibrate the decoder on dev and evaluate it on the same rows.

    The metrics of a calibrated decoder are therefore optimistic, in each epoch in the same way. Splitting dev
    for the two would make both noisier; use a test split for unbiased metrics.
    Raises TaskSpecError if the code of the task raises or does not return JSON.
    """
    decoder: JSONObject = {}
    if trainable.spec.calibrate is not None:
        decoder = json_of(trainable.spec, "calibrate", dev.examples, logits, trainable.labels)
    return DevResult(decoder, evaluate(trainable, dev, logits, decoder))


def evaluate(
    trainable: Trainable, dataset: EncodedDataset, logits: Sequence[np.ndarray], decoder: JSONObject
) -> JSONObject:
    """Return the metrics of `dataset` with the decoder settings `decoder`.

    logits: one array (units, labels) per example.
    Raises TaskSpecError if the code of the task raises or does not return JSON.
    """
    return json_of(trainable.spec, "evaluate", dataset.examples, logits, trainable.labels, decoder)


def dry_run(trainable: Trainable, dev: EncodedDataset) -> None:
    """Calibrate and evaluate on dev with random logits, so that a fault in either shows before training.

    Raises TaskSpecError as `evaluate_dev` does.
    """
    try:
        evaluate_dev(trainable, dev, _random_logits(trainable, dev))
    except TaskSpecError as error:
        tried = "found in a dry run before training, on dev with random logits"
        raise TaskSpecError(error.task, [*error.faults, tried]) from error


def _random_logits(trainable: Trainable, dataset: EncodedDataset) -> list[np.ndarray]:
    """Return random logits of the shape that the head returns; the first example is run to find the shape."""
    one = EncodedDataset(dataset.examples[:1], dataset.encoded[:1], dataset.targets[:1])
    (first,) = trainable.logits(one)
    generator = np.random.default_rng(0)
    return [
        generator.standard_normal((trainable.spec.units(example), *first.shape[1:]), dtype=np.float32)
        for example in dataset.examples
    ]
