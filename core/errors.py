"""The error tree of the core; its root and the store's part are in `onetrunk.adapters.errors`.

OneTrunkError
├── UsageError              settings that contradict each other or the task
├── PlanError               a plan of several trainings that cannot be read; lists every fault
├── DataError               a file that cannot be used, with file and line
├── PluginError             a plugin that does not load or does not keep the contract
│   ├── UnknownTask         no plugin offers the task
│   ├── TaskSpecError       a task's description is faulty; lists every fault
│   └── PredictionFailed    a task's code fails on one text
├── BackboneError           a backbone that cannot be loaded
│   ├── UnsupportedBackbone not an encoder, or one that cannot be run rightly
│   └── BackboneMismatch    an adapter that was trained on another backbone or tokenizer
├── ExportError             an adapter that cannot be exported so, or whose export gives other logits
├── AdapterRejected         an adapter that fails its checks on loading (probe, shapes)
└── TrainingDiverged        the loss is no longer a number
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
"""Characters of a text that a message quotes."""


class UsageError(OneTrunkError):
    """Settings that contradict each other, the task or the machine."""


class PlanError(OneTrunkError):
    """The plan in `file` cannot be used; `faults` lists every fault found."""

    def __init__(self, file: str, faults: Sequence[str]) -> None:
        super().__init__(f"{file}: {'; '.join(faults)}")
        self.file = file
        self.faults = tuple(faults)


class DataError(OneTrunkError):
    """Input that cannot be used; `where` is `file:line`, or the file when it is about the whole.

    lines: the message, and one line for each further fault in `also`.
    """

    def __init__(self, where: str, message: str, also: Sequence[str] = ()) -> None:
        self.lines = (f"{where}: {message}" if where else message, *also)
        super().__init__("\n".join(self.lines))
        self.where = where


class PluginError(OneTrunkError):
    """A plugin that does not load or does not keep the contract."""


class UnknownTask(PluginError):
    """No plugin offers `task`; `known` are the tasks on offer, `broken` the plugins that failed to load."""

    def __init__(self, task: str, known: Sequence[str], broken: Sequence[str] = ()) -> None:
        also = f"; these plugins did not load: {', '.join(broken)} (see `adapters plugins`)" if broken else ""
        super().__init__(f"no plugin offers task {task!r}; known: {', '.join(known) or 'none'}{also}")
        self.task = task
        self.known = tuple(known)
        self.broken = tuple(broken)


class TaskSpecError(PluginError):
    """The description of `task` is faulty; `faults` lists every fault found."""

    def __init__(self, task: str, faults: Sequence[str]) -> None:
        super().__init__(f"task {task!r}: {'; '.join(faults)}")
        self.task = task
        self.faults = tuple(faults)


class PredictionFailed(PluginError):
    """A task's code fails on one text.

    where: of the text, for people, such as `file:line`; index: its place among the texts given, from 0.
    adapter: the version that was asked; cause: the task, its function and what that raised.
    """

    def __init__(self, where: str, index: int, text: str, adapter: str, cause: str) -> None:
        beginning = text if len(text) <= _BEGINNING else f"{text[:_BEGINNING]}…"
        super().__init__(f"{where}: adapter {adapter} fails on {beginning!r}: {cause}")
        self.index = index
        self.text = text
        self.adapter = adapter
        self.cause = cause


class BackboneError(OneTrunkError):
    """A backbone that cannot be loaded; `backbone` is what was asked for."""

    def __init__(self, backbone: str, message: str) -> None:
        super().__init__(f"backbone {backbone}: {message}")
        self.backbone = backbone


class UnsupportedBackbone(BackboneError):
    """Not an encoder, or one that neither the packed trunk nor transformers can run rightly."""


class BackboneMismatch(BackboneError):
    """An adapter that was trained on another backbone or tokenizer."""


class AdapterRejected(OneTrunkError):
    """`adapter` does not load: its weights do not fit, or its probe gives other logits."""

    def __init__(self, adapter: str, message: str) -> None:
        super().__init__(f"adapter {adapter}: {message}")
        self.adapter = adapter


class ExportError(OneTrunkError):
    """The adapter cannot be exported in this form or to this folder; nothing is there."""


class TrainingDiverged(OneTrunkError):
    """The loss is no longer a finite number; nothing was stored."""

    def __init__(self, epoch: int, step: int, hint: str) -> None:
        super().__init__(f"the loss is not finite at epoch {epoch}, step {step}; nothing was stored; {hint}")
        self.epoch = epoch
        self.step = step
