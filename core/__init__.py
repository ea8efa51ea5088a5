"""The core: the contract of a task, the trunk, training, evaluation and prediction.

The public names for programs are those of `onetrunk`. The names here are imported on first use, so that
`onetrunk.core.tasks` and `onetrunk.core.tasks.hookspecs` stay free of torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onetrunk.core.backbones.backbone import Backbone
    from onetrunk.core.inference.predictor import OneTrunk
    from onetrunk.core.tasks.prediction import Prediction

__all__ = ["Backbone", "OneTrunk", "Prediction"]


def __getattr__(name: str) -> object:
    if name == "Backbone":
        from onetrunk.core.backbones.backbone import Backbone

        return Backbone
    if name == "OneTrunk":
        from onetrunk.core.inference.predictor import OneTrunk

        return OneTrunk
    if name == "Prediction":
        from onetrunk.core.tasks.prediction import Prediction

        return Prediction
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
