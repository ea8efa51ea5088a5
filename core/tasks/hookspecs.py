"""The hooks of OneTrunk. A plugin implements any of them, marked with `hookimpl`.

Provider hooks (`tasks`, `commands`) are called once, when plugins are loaded. If one raises or returns an invalid
record, the whole plugin is dropped, and `adapters plugins` shows the reason. Event hooks are called after the
event, on the thread that caused it. If one raises, the error is logged with the name of the plugin and has no
other effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pluggy

from onetrunk.core.errors import PluginError
from onetrunk.core.tasks.spec import JSONObject, TaskSpec

PROJECT = "onetrunk"
ENTRY_POINT_GROUP = "onetrunk.plugins"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A command `adapters NAME`.

    target: `module:attribute` of a click command, imported when the command is used.
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

    name: the name of the adapter.  epoch, step: numbers from 1.  epochs, steps: the planned totals; training may
    stop earlier.  loss: of the batch.  tokens: in the batch.  lr: learning rate of the LoRA weights.
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

    name: the name of the adapter.  loss: mean training loss.  metrics: on dev.  seconds: duration of the epoch.
    best: whether it is the best epoch so far.
    """

    name: str
    epoch: int
    epochs: int
    loss: float
    metrics: JSONObject
    seconds: float
    best: bool


@hookspec
def tasks() -> Iterable[TaskSpec]:
    """Return the tasks of the plugin."""
    return ()


@hookspec
def commands() -> Iterable[CommandSpec]:
    """Return the commands of the plugin. `adapters --help` lists them; each is imported when it is used."""
    return ()


@hookspec
def training_step(event: StepEvent) -> None:
    """Called after each optimizer step, on the training thread."""


@hookspec
def training_epoch(event: EpochEvent) -> None:
    """Called after the dev evaluation of each epoch, on the training thread."""


@hookspec
def adapter_stored(name: str, version: int, path: Path) -> None:
    """Called once after a new version (trained, pulled or imported) has become visible in the store."""


@hookspec
def adapter_swapped(name: str, old: str | None, new: str) -> None:
    """Called once after version `new` has started to serve under the served name `name`.

    old, new: versions such as `ner@3`. old: the version that served before, None on the first load.
    """


@hookspec
def adapter_unloaded(name: str, old: str) -> None:
    """Called once after the version `old`, such as `ner@3`, has stopped serving under the served name `name`."""
