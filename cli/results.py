"""What is said of a training, alone or one of several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onetrunk.cli.figures import figures_of, headline
from onetrunk.cli.output import printable

if TYPE_CHECKING:
    from onetrunk.core.train_data import TrainData
    from onetrunk.core.training import TrainResult


def held_out_line(data: TrainData, seed: int) -> str:
    """Return the line that says which rows are held out as dev."""
    held, kept = len(data.dev.examples), len(data.train.examples)
    source = printable(data.train.source.partition(" (")[0])
    return (
        f"no dev data given: {held} of {held + kept} rows of {source} held out as dev, "
        f"a stratified tenth (seed {seed})"
    )


def record_of(result: TrainResult, seconds: float) -> dict[str, Any]:
    """Return a training as JSON for scripts; seconds: wall time of the command."""
    by_split = {split: figures_of(metrics) for split, metrics in result.metrics.items()}
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
