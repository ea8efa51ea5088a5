"""Compares an adapter with the one that it was trained from (`--from`): has it forgotten labels?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from onetrunk.adapters.errors import first_few
from onetrunk.adapters.format.manifest import Manifest
from onetrunk.core.data.checks import count_labels
from onetrunk.core.data.notes import Note
from onetrunk.core.data.text_forms import LABELS_SHOWN, label_counts
from onetrunk.core.data.training_data import TrainData
from onetrunk.core.tasks import JSONObject, TaskSpec

FORGOTTEN = 0.2
"""A label whose f1 on dev falls by more than this was forgotten."""


@dataclass(frozen=True, slots=True)
class ParentResult:
    """The adapter that a run starts from.

    ref: its reference, such as `support@2`.
    manifest: with its own results.
    dev: its metrics on the dev data of the run, before training.
    """

    ref: str
    manifest: Manifest
    dev: JSONObject


def parent_notes(spec: TaskSpec, parent: ParentResult, data: TrainData, after: JSONObject) -> list[Note]:
    """Return notes on the metrics on dev before and after the training, and on what dev cannot measure.

    after: the metrics of the trained adapter on dev.
    """
    notes = []
    values = [metrics.get(spec.primary) for metrics in (parent.dev, after)]
    if all(isinstance(value, int | float) for value in values):
        before, now = (f"{value:.4f}" for value in values)
        message = f"{spec.primary} on dev: {before} of {parent.ref}, which training began with; {now} now"
        notes.append(Note("parent-comparison", message, data.dev.source))
    notes += _forgotten(parent, data, after)
    notes += _unmeasured(spec, parent, data)
    return notes


def _forgotten(parent: ParentResult, data: TrainData, after: JSONObject) -> Iterator[Note]:
    now = _f1_by_label(after)
    fallen = [
        f"{label} {before:.2f} → {now[label]:.2f}"
        for label, before in _f1_by_label(parent.dev).items()
        if label in now and before - now[label] > FORGOTTEN
    ]
    if fallen:
        message = f"f1 on dev fell from that of {parent.ref}: {first_few(fallen, LABELS_SHOWN)}"
        hint = "add rows of these labels to the training data"
        yield Note("forgotten-labels", f"{message}; {hint}", data.dev.source, len(fallen))


def _unmeasured(spec: TaskSpec, parent: ParentResult, data: TrainData) -> Iterator[Note]:
    """Yield a note on the labels of the parent that neither train nor dev has."""
    train, dev = (count_labels(each.examples, spec.level) for each in (data.train, data.dev))
    labels = label_counts(data.labels, spec.level)
    missing = [label for label in labels if label not in train and label not in dev]
    if not missing:
        return
    recorded = _f1_by_label(parent.manifest.metrics.get("dev", {}))
    shown = [f"{label} (f1 {recorded[label]:.2f})" if label in recorded else label for label in missing]
    message = (
        f"cannot measure what training forgot of {first_few(shown, LABELS_SHOWN)}: dev has no rows of these "
        f"labels, and the dev data of {parent.ref}, on which it had this f1, is not stored; add rows to dev"
    )
    yield Note("unmeasured-labels", message, data.dev.source, len(missing))


def _f1_by_label(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the f1 of each label, or entity type, that has gold items, from the tables of `metrics`."""
    tables = [value for value in metrics.values() if isinstance(value, Mapping)]
    rows = [(label, row) for table in tables for label, row in table.items() if isinstance(row, Mapping)]
    return {
        label: float(row["f1"]) for label, row in rows if row.get("f1") is not None and row.get("support")
    }
