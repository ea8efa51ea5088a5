"""The errors of the core, and those of `onetrunk.adapters.errors` that programs meet most.

Errors carry their data as attributes, so a program does not have to parse messages.
"""

from __future__ import annotations

from collections.abc import Sequence

from onetrunk.adapters.errors import ArtifactError as ArtifactError
from onetrunk.adapters.errors import HashMismatch as HashMismatch
from onetrunk.adapters.errors import OneTrunkError as OneTrunkError
from onetrunk.adapters.errors import ReferenceSyntaxError as ReferenceSyntaxError
from onetrunk.adapters.errors import StoreBusy as StoreBusy
from onetrunk.adapters.errors import StoreError as StoreError
from onetrunk.adapters.errors import UnknownAdapter as UnknownAdapter

_BEGINNING = 60
"""Number of characters of a text that a message quotes."""


class UsageError(OneTrunkError):
    """Settings that contradict each other, the task or the machine."""


class PlanError(OneTrunkError):
    """An invalid training plan.  file: the name of the plan.  faults: every fault found."""

    def __init__(self, file: str, faults: Sequence[str]) -> None:
        super().__init__(f"{file}: {'; '.join(faults)}")
        self.file = file
        self.faults = tuple(faults)


class DataError(OneTrunkError):
    """Invalid input.

    where: `file:line`, or the file.  lines: the first fault with `where`, then one line for each fault in `also`.
    """

    def __init__(self, where: str, message: str, also: Sequence[str] = ()) -> None:
        self.lines = (f"{where}: {message}" if where else message, *also)
        super().__init__("\n".join(self.lines))
        self.where = where


class PluginError(OneTrunkError):
    """A plugin that fails to load or breaks the contract."""


class UnknownTask(PluginError):
    """No loaded plugin has the task `task`.  known: the available tasks.  broken: plugins that failed to load."""

    def __init__(self, task: str, known: Sequence[str], broken: Sequence[str] = ()) -> None:
        also = (
            f"; these plugins failed to load: {', '.join(broken)} (see `adapters plugins`)" if broken else ""
        )
        super().__init__(f"no plugin has the task {task!r}; known: {', '.join(known) or 'none'}{also}")
        self.task = task
        self.known = tuple(known)
        self.broken = tuple(broken)


class TaskSpecError(PluginError):
    """The task `task` is invalid, or its code breaks the contract.  faults: every fault found."""

    def __init__(self, task: str, faults: Sequence[str]) -> None:
        super().__init__(f"task {task!r}: {'; '.join(faults)}")
        self.task = task
        self.faults = tuple(faults)


class PredictionFailed(PluginError):
    """The code of a task fails on one text.

    where: the origin of the text for messages, such as `file:line`.  index: its index among the texts of the call,
    from 0.  adapter: the version, such as `ner@3`.  cause: the task, its function and the exception.
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
    """The backbone `backbone` cannot be loaded."""

    def __init__(self, backbone: str, message: str) -> None:
        super().__init__(f"backbone {backbone}: {message}")
        self.backbone = backbone


class UnsupportedBackbone(BackboneError):
    """The model is not an encoder, or OneTrunk does not support its architecture."""


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
