"""The report of a training run: notes before it, and its result as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from onetrunk.cli.number_format import counted, headline, scalar_metrics
from onetrunk.cli.output import printable

if TYPE_CHECKING:
    from onetrunk.core.data.dataset import Dataset
    from onetrunk.core.data.training_data import TrainData
    from onetrunk.core.tasks import TaskSpec
    from onetrunk.core.training.pipeline import TrainResult

_FEW = 20
"""Below this many dev rows, a single example changes a metric by more than 5 points."""


def notices(spec: TaskSpec, data: TrainData, seed: int) -> Iterator[str]:
    """Yield the notes to print before training: held-out rows, and notes of the task on each data set."""
    if data.held_out:
        yield from _held_out_lines(data, seed)
    for dataset in data.splits.values():
        yield from notes_lines(spec, dataset)


def notes_lines(spec: TaskSpec, dataset: Dataset) -> Iterator[str]:
    """Yield the notes of the task on a data set, each with the source of the data."""
    from onetrunk.core.tasks.guarded_calls import notes_on

    yield from (printable(f"{dataset.source}: {note}") for note in notes_on(spec, dataset.examples))


def _held_out_lines(data: TrainData, seed: int) -> Iterator[str]:
    held, kept = len(data.dev.examples), len(data.train.examples)
    source = printable(data.train.source.partition(" (")[0])
    yield (
        f"no dev data given: {held} of {held + kept} rows of {source} are held out as dev "
        f"(a stratified tenth, seed {seed})"
    )
    if held < _FEW:
        yield (
            f"dev has only {counted(held, 'row')} (fewer than {_FEW}): the choice of the best epoch and the dev "
            "metrics are largely chance; give a larger dev file with --dev"
        )


def record_of(result: TrainResult, seconds: float) -> dict[str, Any]:
    """Return the result of a training run as JSON. seconds: wall time of the command."""
    by_split = {split: scalar_metrics(metrics) for split, metrics in result.metrics.items()}
    return {
        "adapter": result.stored and result.stored.ref,
        "metrics": headline(result.metrics)[1],
        "dev": by_split["dev"],
        "test": by_split.get("test"),
        "seconds": round(seconds, 3),
        "tokens_per_second": round(result.run.tokens_per_second, 1),
        "parameters": result.trained,
        "share": result.share,
        "best_epoch": result.run.best_epoch,
        "epochs": len(result.run.history),
        "loss": result.loss,
        "bytes": result.bytes,
    }
