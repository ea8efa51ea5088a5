"""OneTrunk: many text tasks on one frozen BERT.

The public names, each imported on first use, so that `import onetrunk` does not import torch:

OneTrunk: serves adapters on one frozen backbone.
Backbone: a pretrained encoder.
Prediction: the prediction of one adapter for one text.
Splits: the data files of a training run.
TrainResult, TrainSettings: the result and the settings of a training run.
train: trains an adapter and stores it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onetrunk.core.backbones.backbone import Backbone as Backbone
    from onetrunk.core.data.splits import Splits as Splits
    from onetrunk.core.inference.predictor import OneTrunk as OneTrunk
    from onetrunk.core.tasks.prediction import Prediction as Prediction
    from onetrunk.core.training.job import TrainResult as TrainResult
    from onetrunk.core.training.settings import TrainSettings as TrainSettings
    from onetrunk.core.training.train import train as train

    __version__: str

_MODULES = {
    "Backbone": "onetrunk.core.backbones.backbone",
    "OneTrunk": "onetrunk.core.inference.predictor",
    "Prediction": "onetrunk.core.tasks.prediction",
    "Splits": "onetrunk.core.data.splits",
    "TrainResult": "onetrunk.core.training.job",
    "TrainSettings": "onetrunk.core.training.settings",
    "train": "onetrunk.core.training.train",
}
"""The module of each public name."""

__all__ = [
    "Backbone",
    "OneTrunk",
    "Prediction",
    "Splits",
    "TrainResult",
    "TrainSettings",
    "__version__",
    "train",
]


if not TYPE_CHECKING:  # type checkers take the imports above, and so find misspelled names

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version("onetrunk")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
