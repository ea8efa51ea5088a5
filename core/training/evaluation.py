"""The metrics of a run on dev and test, always with the decoder as it would be stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onetrunk.core.errors import TaskSpecError
from onetrunk.core.tasks import JSONObject
from onetrunk.core.tasks.guarded_calls import json_of
from onetrunk.core.training.encoded_dataset import Corpus
from onetrunk.core.training.trainable import Trainable


@dataclass(frozen=True, slots=True)
class DevResult:
    """The settings of the decoder, calibrated on dev ({} for a task without), and the metrics on dev with them."""

    decoder: JSONObject
    metrics: JSONObject


def measure_dev(learner: Trainable, dev: Corpus, logits: Sequence[np.ndarray]) -> DevResult:
    """Calibrate the decoder on dev and return the metrics of dev with it.

    Both use the same rows, so that the metrics of a calibrated decoder are optimistic, by the same rule in each
    epoch. A part of dev held out for the metrics would make both noisier; test tells the honest figure.
    Raises TaskSpecError for what the task raises, and where it does not give JSON.
    """
    decoder: JSONObject = {}
    if learner.spec.calibrate is not None:
        decoder = json_of(learner.spec, "calibrate", dev.examples, logits, learner.labels)
    return DevResult(decoder, measure(learner, dev, logits, decoder))


def measure(
    learner: Trainable, corpus: Corpus, logits: Sequence[np.ndarray], decoder: JSONObject
) -> JSONObject:
    """Return the metrics of `corpus`, decoded with the settings `decoder`. Raises TaskSpecError."""
    return json_of(learner.spec, "evaluate", corpus.examples, logits, learner.labels, decoder)


def rehearse(learner: Trainable, dev: Corpus) -> None:
    """Calibrate and evaluate on dev with made-up logits, before hours of training are lost to a fault in either.

    Raises TaskSpecError as `measure_dev` does.
    """
    try:
        measure_dev(learner, dev, _made_up_logits(learner, dev))
    except TaskSpecError as error:
        tried = "tried before training, on dev with made-up logits"
        raise TaskSpecError(error.task, [*error.faults, tried]) from error


def _made_up_logits(learner: Trainable, corpus: Corpus) -> list[np.ndarray]:
    """Return random logits of the shape that the head gives each example; the first is run to see it."""
    one = Corpus(corpus.examples[:1], corpus.encoded[:1], corpus.targets[:1])
    (seen,) = learner.logits(one)
    draw = np.random.default_rng(0)
    return [
        draw.standard_normal((learner.spec.units(example), *seen.shape[1:]), dtype=np.float32)
        for example in corpus.examples
    ]
