"""Evaluation of a run on dev and test, with the decoder settings that are calibrated on dev."""

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

    decoder: the calibrated decoder settings, such as thresholds; {} for a task without calibration.
    metrics: the metrics on dev with these decoder settings.
    """

    decoder: JSONObject
    metrics: JSONObject


def evaluate_dev(trainable: Trainable, dev: EncodedDataset, logits: Sequence[np.ndarray]) -> DevResult:
    """Calibrate the decoder on dev, and compute the metrics on dev with it.

    The metrics of a calibrated decoder are too optimistic, because they are measured on the data of the
    calibration. Two halves of dev would make both noisier. A test split gives unbiased metrics.

    logits: one array (units, labels) per example.
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
    """Calibrate and evaluate on dev with random logits, to find errors in the code of the task before training.

    Raises TaskSpecError if the code of the task raises or does not return JSON.
    """
    generator = np.random.default_rng(0)
    try:
        # The head is called for one example, to find the shape of its logits.
        (first,) = trainable.logits(EncodedDataset(dev.examples[:1], dev.encoded[:1], dev.targets[:1]))
        shapes = [(trainable.spec.units(example), *first.shape[1:]) for example in dev.examples]
        evaluate_dev(trainable, dev, [generator.standard_normal(shape, dtype=np.float32) for shape in shapes])
    except TaskSpecError as error:
        tried = "found before training, in an evaluation on dev with random logits"
        raise TaskSpecError(error.task, [*error.faults, tried]) from error
