"""The errors of the core. Their root, and those of the store, are in `onetrunk.adapters.errors`.

OneTrunkError
├── UsageError              settings that contradict each other or the task
├── PlanError               an invalid training plan; lists every fault
├── DataError               invalid input, with file and line
├── PluginError             a plugin that fails to load or breaks the contract
│   ├── UnknownTask         no plugin has the task
│   ├── TaskSpecError       an invalid task; lists every fault
│   └── PredictionFailed    the code of a task fails on one text
├── BackboneError           a backbone that cannot be loaded
│   ├── UnsupportedBackbone not an encoder, or an unsupported one
│   └── BackboneMismatch    the adapter was trained on another backbone or tokenizer
├── ExportError             the export failed, or its logits differ
├── AdapterRejected         the adapter fails its checks on loading (shapes, probe)
└── TrainingDiverged        the loss is not finite
"""

from __future__ import annotations

from collections.abc import Sequence

from onetrunk.adapters.errors import (
    ArtifactError,
    HashMismatch,
    OneTrunkError,
    ReferenceSyntaxError,
    StoreBusy,
    StoreError,
    UnknownAdapter,
)

__all__ = [
    "AdapterRejected",
    "ArtifactError",
    "BackboneError",
    "BackboneMismatch",
    "DataError",
    "ExportError",
    "HashMismatch",
    "OneTrunkError",
    "PlanError",
    "PluginError",
    "PredictionFailed",
    "ReferenceSyntaxError",
    "StoreBusy",
    "StoreError",
    "TaskSpecError",
    "TrainingDiverged",
    "UnknownAdapter",
    "UnknownTask",
    "UnsupportedBackbone",
    "UsageError",
]

_BEGINNING = 60
"""Number of characters of a text that a message quotes."""


class UsageError(OneTrunkError):
    """Settings that contradict each other, the task or the machine."""


class PlanError(OneTrunkError):
    """An invalid training plan. file: its name; faults: every fault found."""

    def __init__(self, file: str, faults: Sequence[str]) -> None:
        super().__init__(f"{file}: {'; '.join(faults)}")
        self.file = file
        self.faults = tuple(faults)


class DataError(OneTrunkError):
    """Invalid input.

    where: `file:line`, or the file.  lines: the message, and one line for each further fault in `also`.
    """

    def __init__(self, where: str, message: str, also: Sequence[str] = ()) -> None:
        self.lines = (f"{where}: {message}" if where else message, *also)
        super().__init__("\n".join(self.lines))
        self.where = where


class PluginError(OneTrunkError):
    """A plugin that fails to load or breaks the contract."""


class UnknownTask(PluginError):
    """No plugin has the task.

    task: the name asked for; known: the available tasks; broken: plugins that failed to load.
    """

    def __init__(self, task: str, known: Sequence[str], broken: Sequence[str] = ()) -> None:
        also = (
            f"; these plugins failed to load: {', '.join(broken)} (see `adapters plugins`)" if broken else ""
        )
        super().__init__(f"no plugin has the task {task!r}; known: {', '.join(known) or 'none'}{also}")
        self.task = task
        self.known = tuple(known)
        self.broken = tuple(broken)


class TaskSpecError(PluginError):
    """An invalid task, or one whose code breaks the contract. task: its name; faults: every fault found."""

    def __init__(self, task: str, faults: Sequence[str]) -> None:
        super().__init__(f"task {task!r}: {'; '.join(faults)}")
        self.task = task
        self.faults = tuple(faults)


class PredictionFailed(PluginError):
    """The code of a task fails on one text.

    where: position of the text for people, such as `file:line`.  index: its index among the given texts, from 0.
    adapter: the version.  cause: the task, its function and the exception.
    """

    def __init__(self, where: str, index: int, text: str, adapter: str, cause: str) -> None:
        beginning = text if len(text) <= _BEGINNING else f"{text[:_BEGINNING]}…"
        super().__init__(f"{where}: adapter {adapter} fails on {beginning!r}: {cause}")
        self.where = where
        self.index = index
        self.text = text
        self.adapter = adapter
        self.cause = cause


class BackboneError(OneTrunkError):
    """A backbone that cannot be loaded. backbone: the name asked for."""

    def __init__(self, backbone: str, message: str) -> None:
        super().__init__(f"backbone {backbone}: {message}")
        self.backbone = backbone


class UnsupportedBackbone(BackboneError):
    """The model is not an encoder, or one that OneTrunk does not support."""


class BackboneMismatch(BackboneError):
    """The adapter was trained on another backbone or tokenizer."""


class AdapterRejected(OneTrunkError):
    """The adapter fails its checks on loading: the shapes of its weights, or the logits of its probe."""

    def __init__(self, adapter: str, message: str) -> None:
        super().__init__(f"adapter {adapter}: {message}")
        self.adapter = adapter


class ExportError(OneTrunkError):
    """The export failed, or its logits differ; no folder was created."""


class TrainingDiverged(OneTrunkError):
    """The loss is not finite; nothing was stored."""

    def __init__(self, epoch: int, step: int, hint: str) -> None:
        super().__init__(f"the loss is not finite at epoch {epoch}, step {step}; nothing was stored; {hint}")
        self.epoch = epoch
        self.step = step
