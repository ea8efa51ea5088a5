"""Decides whether a trained version becomes the current one of its name, by the metrics of the current version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from onetrunk.adapters.store.store import StoredVersion
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.data.notes import Note
from onetrunk.core.data.training_data import TrainData
from onetrunk.core.errors import OneTrunkError, UsageError
from onetrunk.core.inference.adapter_io import load_adapter
from onetrunk.core.inference.logits import LogitsRequest, compute_logits
from onetrunk.core.tasks import JSONObject, TaskSpec
from onetrunk.core.tasks.guarded_calls import json_of
from onetrunk.core.training.encoded_dataset import EncodedDataset
from onetrunk.core.training.settings import Promote
from onetrunk.core.trunk.base import Trunk

_NEVER = -1e4
"""The logit of a label that an adapter does not have: far below any other, and small enough for every decoder."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """Whether a new version became the current one of its name, and why.

    name: the name in the store.
    stored: reference of the new version.
    promoted: whether the name means the new version now.
    previous: reference of the version that the name meant before; None if it meant none.
    metrics: the metrics of `previous` on the data of the new version, by split; {} if it could not be measured.
    reason: why; a clause that follows a colon.
    """

    name: str
    stored: str
    promoted: bool
    previous: str | None
    metrics: Mapping[str, JSONObject]
    reason: str

    @property
    def message(self) -> str:
        """What the name means now, and why, as one sentence."""
        if self.promoted:
            return f"{self.name} means {self.stored} now: {self.reason}"
        still = f"still means {self.previous}" if self.previous else "means no version yet"
        return f"{self.name} {still}: {self.reason}; `adapters promote {self.stored}` makes it mean {self.stored}"

    @property
    def notes(self) -> tuple[Note, ...]:
        """A note if the name does not mean the new version, or if the version before could not be measured."""
        if self.promoted and (self.metrics or self.previous is None):
            return ()
        return (Note("promoted" if self.promoted else "not-promoted", self.message),)


@dataclass(frozen=True, slots=True)
class CurrentVersion:
    """The version that a name means when a training ends, measured on the data of the training.

    stored: the version; None if the name means none.
    metrics: its metrics by split; {} if it could not be measured.
    fault: why it could not be measured; "" if it was.
    doubt: a reason why its metrics may be too good; "" if there is none.
    """

    stored: StoredVersion | None
    metrics: Mapping[str, JSONObject] = field(default_factory=dict)
    fault: str = ""
    doubt: str = ""


def measure_current(
    stored: StoredVersion | None,
    spec: TaskSpec,
    data: TrainData,
    splits: Mapping[str, EncodedDataset],
    backbone: Backbone,
    trunk: Trunk,
) -> CurrentVersion:
    """Measure the current version of a name on dev and test of a training. An error becomes the `fault`.

    Labels of the training that the version lacks count as missed.
    """
    if stored is None:
        return CurrentVersion(None)
    try:
        metrics = _metrics(stored, spec, data, splits, backbone, trunk)
        trained_on = stored.read().manifest.data
    except OneTrunkError as error:
        return CurrentVersion(stored, fault=str(error))
    except Exception as error:  # nothing may stop the new version from being stored
        return CurrentVersion(stored, fault=f"{type(error).__name__}: {error}")
    doubt = ""
    if data.held_out and (own := trained_on.get("dev")) is not None and own.sha256 != data.dev.sha256:
        doubt = f"dev was drawn from other data than before, so {stored.ref} may have learnt some of its rows"
    return CurrentVersion(stored, metrics, doubt=doubt)


def decide(
    rule: Promote, primary: str, metrics: Mapping[str, JSONObject], current: CurrentVersion
) -> tuple[bool, str]:
    """Return whether a new version with these `metrics` becomes the current one, and why.

    metrics: of the new version, by split.
    primary: the metric that is compared, on test if there is a test split, else on dev; higher is better.
    """
    before = current.stored
    value = _value(metrics["dev"], primary)
    compared = "" if before is None else _compared(primary, metrics, current)
    if rule != "better":
        return rule == "always", f"--promote is {rule}" + (f"; {compared}" if compared else "")
    if value == 0:
        return False, f"its {primary} on dev is 0" + (f"; {compared}" if compared else "")
    if before is None:
        return True, "it is the first version" + (
            "" if value is not None else f"; its {primary} is undefined"
        )
    split = "test" if "test" in metrics else "dev"
    new, old = (_value(each.get(split, {}), primary) for each in (metrics, current.metrics))
    return new is not None and old is not None and new >= old, compared


def _compared(primary: str, metrics: Mapping[str, JSONObject], current: CurrentVersion) -> str:
    """Return the values of the metric with the new version and with the current one, in words."""
    ref = "" if current.stored is None else current.stored.ref
    if current.fault:
        return f"{ref} could not be measured on the same data ({current.fault})"
    split = "test" if "test" in metrics else "dev"
    new, old = (_shown(_value(each.get(split, {}), primary)) for each in (metrics, current.metrics))
    doubt = f" ({current.doubt})" if current.doubt and split == "dev" else ""
    return f"{primary} on {split} is {new}, and {old} with {ref}{doubt}"


def _metrics(
    stored: StoredVersion,
    spec: TaskSpec,
    data: TrainData,
    splits: Mapping[str, EncodedDataset],
    backbone: Backbone,
    trunk: Trunk,
) -> dict[str, JSONObject]:
    artifact = stored.read()
    if artifact.manifest.task != spec.name:
        raise UsageError(f"it is for the task {artifact.manifest.task}")
    adapter = load_adapter(stored.ref, artifact, spec, backbone, trunk)
    missing = [label for label in data.labels if label not in adapter.labels]
    labels, found = (*adapter.labels, *missing), {}
    for split in ("dev", "test"):
        if (own := splits.get(split)) is None:
            continue
        logits = compute_logits(trunk, [adapter], [LogitsRequest(encoded, 0) for encoded in own.encoded])
        if missing:
            logits = [_widened(each, len(adapter.labels), len(missing)) for each in logits]
        found[split] = json_of(spec, "evaluate", own.examples, logits, labels, adapter.settings)
    return found


def _widened(logits: np.ndarray, labels: int, missing: int) -> np.ndarray:
    """Return logits (units, labels) with columns for labels that are missing, which are never the best ones."""
    if logits.ndim != 2 or logits.shape[1] != labels:
        return logits
    return np.pad(logits, ((0, 0), (0, missing)), constant_values=_NEVER)


def _value(metrics: JSONObject, name: str) -> float | None:
    value = metrics.get(name)
    return float(value) if isinstance(value, int | float) else None


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
