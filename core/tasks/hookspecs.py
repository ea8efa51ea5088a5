"""The hooks of OneTrunk: functions that a plugin can implement, marked with `hookimpl`.

Provider hooks (`tasks`, `commands`) are called once, when plugins are loaded. If a provider hook raises or returns
an invalid record, the whole plugin is dropped, and `adapters plugins` shows the reason. Event hooks (all others)
are called after the event, on the thread that caused it. If an event hook raises, the error is logged with the name
of the plugin and has no other effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pluggy

from onetrunk.core.errors import PluginError
from onetrunk.core.tasks.records import JSONObject
from onetrunk.core.tasks.spec import TaskSpec

PROJECT = "onetrunk"
ENTRY_POINT_GROUP = "onetrunk.plugins"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A command `adapters NAME` of a plugin.

    target: `module:attribute` of a click command, which is imported when the command runs.
    summary: one line for `adapters --help`.
    """

    name: str
    target: str
    summary: str

    def __post_init__(self) -> None:
        """Check all fields. Raises PluginError that lists every fault."""
        faults = []
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", self.name):
            faults.append("name must be lower-case letters, digits or '-', at most 32")
        if not re.fullmatch(r"\w+(\.\w+)*:\w+", self.target):
            faults.append(f"target must be module:attribute, not {self.target!r}")
        if not self.summary or "\n" in self.summary:
            faults.append("summary must be one line")
        if faults:
            raise PluginError(f"command {self.name!r}: {'; '.join(faults)}")


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One optimizer step of a training run.

    name: the name of the adapter.
    epoch, step: numbers from 1.  epochs, steps: the planned totals of the run; training can stop earlier.
    loss, tokens: the loss of the batch, and its number of tokens.
    lr: the learning rate of the LoRA weights.
    """

    name: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    tokens: int
    lr: float


@dataclass(frozen=True, slots=True)
class EpochEvent:
    """One epoch of a training run.

    name: the name of the adapter.  epoch: number from 1.  epochs: the planned total.
    loss: the mean training loss.  metrics: the metrics of `TaskSpec.evaluate` on the dev split.
    seconds: duration of the epoch.  best: whether it is the best epoch so far.
    dev_loss: the mean loss on the dev split; None if it is not finite.
    """

    name: str
    epoch: int
    epochs: int
    loss: float
    metrics: JSONObject
    seconds: float
    best: bool
    dev_loss: float | None = None


@hookspec
def tasks() -> Iterable[TaskSpec]:
    """Return the tasks of the plugin."""
    return ()


@hookspec
def commands() -> Iterable[CommandSpec]:
    """Return the commands of the plugin, which `adapters --help` lists."""
    return ()


@hookspec
def training_step(event: StepEvent) -> None:
    """Called after each optimizer step, on the training thread."""


@hookspec
def training_epoch(event: EpochEvent) -> None:
    """Called after the dev evaluation of each epoch, on the training thread."""


@hookspec
def adapter_stored(name: str, version: int, path: Path) -> None:
    """Called once after a new version (trained, pulled or imported) is in the store, in the folder `path`."""


@hookspec
def adapter_swapped(name: str, old: str | None, new: str) -> None:
    """Called once after the service has started to answer requests for `name` with the version `new`.

    old, new: versions such as `ner@3`. old: the version that answered before, None if there was none.
    """


@hookspec
def adapter_unloaded(name: str, old: str) -> None:
    """Called once after the version `old`, such as `ner@3`, has stopped answering requests for `name`."""
