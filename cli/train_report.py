"""The result of a training run as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onetrunk.cli.number_format import headline, scalar_metrics

if TYPE_CHECKING:
    from onetrunk.core.training.pipeline import TrainResult


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
        "notes": [note.to_json() for note in result.notes],
    }
