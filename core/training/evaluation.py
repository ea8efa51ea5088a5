"""Evaluation in training: the metrics, the calibrated decoder and the loss on dev, from the logits of its examples.

`logits` has one array (units, ...) for each example of a data set; a unit is a text or a word.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.errors import TaskSpecError
from onetrunk.core.tasks import JSONObject, Labels, TaskSpec
from onetrunk.core.tasks.guarded_calls import calling, json_of
from onetrunk.core.tasks.unknown_labels import task_metrics
from onetrunk.core.training.encoded_dataset import EncodedDataset


@dataclass(frozen=True, slots=True)
class DevResult:
    """The result of an evaluation on dev.

    decoder: the calibrated decoder settings, such as thresholds; {} for a task without calibration.
    metrics: the metrics on dev with these decoder settings.
    loss: the mean loss on dev; infinity if it is not finite.
    note: what `TaskSpec.calibrate` tells the user; "" for nothing.
    """

    decoder: JSONObject
    metrics: JSONObject
    loss: float = math.inf
    note: str = ""


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Evaluates logits of one task. Its methods raise TaskSpecError if the code of the task breaks the contract."""

    spec: TaskSpec
    labels: Labels

    def metrics(
        self, dataset: EncodedDataset, logits: Sequence[np.ndarray], decoder: JSONObject
    ) -> JSONObject:
        """Return the metrics of `dataset` with the decoder settings `decoder`."""
        return task_metrics(self.spec, dataset.examples, logits, self.labels, decoder, dataset.unknown)

    def on_dev(self, dev: EncodedDataset, logits: Sequence[np.ndarray]) -> DevResult:
        """Calibrate the decoder on dev, and compute the metrics and the loss on dev.

        The metrics of a calibrated decoder are too optimistic, because they are measured on the data of the
        calibration. With one half of dev for each, both would be less exact. A test split gives unbiased metrics.
        """
        decoder: JSONObject = {}
        if self.spec.calibrate is not None:
            known = [i for i in range(len(dev.examples)) if i not in dev.unknown]
            examples, rows = [dev.examples[i] for i in known], [logits[i] for i in known]
            decoder = json_of(self.spec, "calibrate", examples, rows, self.labels)
        note = str(decoder.pop("note", ""))
        loss = self.loss(dev, logits)
        metrics = self.metrics(dev, logits, decoder)
        return DevResult(decoder, metrics, loss if math.isfinite(loss) else math.inf, note)

    def loss(self, dataset: EncodedDataset, logits: Sequence[np.ndarray]) -> float:
        """Return the mean loss of the units of `dataset`, all labels weighted equally."""
        groups: dict[tuple[int, ...], list[int]] = {}  # a head can return logits of several shapes
        for index, rows in enumerate(logits):
            groups.setdefault(rows.shape[1:], []).append(index)
        total = 0.0
        for indices in groups.values():
            units = torch.from_numpy(np.concatenate([logits[i] for i in indices]))
            if len(units):
                total += float(task_loss(self.spec, units, dataset.target_tensor(indices))) * len(units)
        return total / max(1, sum(map(len, logits)))

    def support(self, dataset: EncodedDataset) -> int:
        """Return the number of things in `dataset` that the metric counts; see `TaskSpec.support`."""
        spec = self.spec
        if spec.support is None:
            counted = [[isinstance(each, float) or each >= 0 for each in own] for own in dataset.targets]
            return sum(any(own) if spec.level == "text" else sum(own) for own in counted)
        with calling(spec, "support"):
            found = [spec.support(example) for example in dataset.examples]
            if odd := [each for each in found if type(each) is not int or each < 0]:
                raise TaskSpecError(spec.name, [f"support returns {odd[0]!r}, expected an int from 0"])
        return sum(found)

    def trial(
        self, dev: EncodedDataset, test: EncodedDataset | None, shape: tuple[int, ...]
    ) -> dict[str, JSONObject]:
        """Evaluate with random logits, to find errors in the code of the task before training.

        shape: of the logits of one unit.
        Return the metrics by split.
        """
        try:
            logits = self._random_logits(dev, shape)
            found = self.on_dev(dev, logits)
            if math.isnan(self.loss(dev, logits)):
                raise TaskSpecError(self.spec.name, ["loss returns nan for the targets of dev"])
            metrics = {"dev": found.metrics}
            if test is not None:
                metrics["test"] = self.metrics(test, self._random_logits(test, shape), found.decoder)
        except TaskSpecError as error:
            tried = "found before training, in an evaluation with random logits"
            raise TaskSpecError(error.task, [*error.faults, tried]) from error
        return metrics

    def _random_logits(self, dataset: EncodedDataset, shape: tuple[int, ...]) -> list[np.ndarray]:
        generator = np.random.default_rng(0)
        shapes = [(self.spec.units(example), *shape) for example in dataset.examples]
        return [generator.standard_normal(own, dtype=np.float32) for own in shapes]


def task_loss(spec: TaskSpec, logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return the loss of the task, a scalar tensor. Raises TaskSpecError if the task returns anything else."""
    with calling(spec, "loss"):
        loss = spec.loss(logits, targets, class_weights)
    if not isinstance(loss, Tensor) or loss.shape != ():
        fault = f"loss returns {loss!r}, expected a scalar tensor that depends on the logits"
        raise TaskSpecError(spec.name, [fault])
    return loss
