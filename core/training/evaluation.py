"""A run is calibrated and measured at its end, and before its first epoch that is tried out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onetrunk.core.errors import TaskSpecError
from onetrunk.core.tasks import JSONObject
from onetrunk.core.tasks.guarded_calls import json_of
from onetrunk.core.training.encoded_dataset import Corpus
from onetrunk.core.training.run_state import learner_logits
from onetrunk.core.training.trainable import Learner

_Logits = Sequence[np.ndarray]


def measure(
    learner: Learner, corpora: Mapping[str, Corpus], first_position: int
) -> tuple[JSONObject, dict[str, JSONObject]]:
    """Calibrate the decoder on dev; return its settings and the metrics of dev and test with them.

    Raises TaskSpecError for what the task raises, and where it does not give JSON.
    """
    logits = {
        split: learner_logits(learner, c, first_position) for split, c in corpora.items() if split != "train"
    }
    return _judge(learner, corpora, logits)


def rehearse(learner: Learner, dev: Corpus, first_position: int) -> None:
    """Calibrate and evaluate on dev with made-up logits, before hours of training are lost to a fault in either.

    Raises TaskSpecError as `measure` does.
    """
    logits = _made_up_logits(learner, dev, first_position)
    try:
        json_of(learner.spec, "evaluate", dev.examples, logits, learner.labels, {})  # as each epoch is judged
        _judge(learner, {"dev": dev}, {"dev": logits})
    except TaskSpecError as error:
        tried = "tried before training, on dev with made-up logits"
        raise TaskSpecError(error.task, [*error.faults, tried]) from error


def _judge(
    learner: Learner, corpora: Mapping[str, Corpus], logits: Mapping[str, _Logits]
) -> tuple[JSONObject, dict[str, JSONObject]]:
    spec, labels, dev = learner.spec, learner.labels, corpora["dev"]
    decoder: JSONObject = {}
    if spec.calibrate is not None:
        decoder = json_of(spec, "calibrate", dev.examples, logits["dev"], labels)
    metrics = {
        split: json_of(spec, "evaluate", corpora[split].examples, own, labels, decoder)
        for split, own in logits.items()
    }
    return decoder, metrics


def _made_up_logits(learner: Learner, corpus: Corpus, first_position: int) -> list[np.ndarray]:
    """Return random logits of the shape that the head gives each example; the first is run to see it."""
    one = Corpus(corpus.examples[:1], corpus.encoded[:1], corpus.targets[:1])
    (seen,) = learner_logits(learner, one, first_position)
    draw = np.random.default_rng(0)
    return [
        draw.standard_normal((learner.spec.units(example), *seen.shape[1:]), dtype=np.float32)
        for example in corpus.examples
    ]
