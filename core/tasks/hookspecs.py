"""Every hook of OneTrunk. A plugin implements what it wants, marked with `hookimpl`; none is required.

Hooks that give something are called once, when the plugin host starts; a raise or a faulty record drops that
plugin whole and is reported by `adapters plugins`. Hooks that hear of something are called after it happened,
on the thread that did it; a raise is logged with the plugin's name and changes nothing.
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
    """A command `adapters NAME`; `target` is `module:attribute` of a click command and imported on use."""

    name: str
    target: str
    summary: str

    def __post_init__(self) -> None:
        """Check the record as a whole. Raises PluginError with every fault."""
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
    """One optimiser step: `loss` of the batch, `tokens` in it, learning rate `lr` of the LoRA weights.

    epochs, steps: planned in all; the run may stop earlier.
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
    """One epoch: mean training `loss`, `metrics` on dev, `seconds` it took, if it is the `best` so far."""

    name: str
    epoch: int
    epochs: int
    loss: float
    metrics: JSONObject
    seconds: float
    best: bool


@hookspec
def tasks() -> Iterable[TaskSpec]:
    """Give the plugin's tasks."""
    return ()


@hookspec
def commands() -> Iterable[CommandSpec]:
    """Give the plugin's commands; they are named in `adapters --help` and imported only when used."""
    return ()


@hookspec
def training_step(event: StepEvent) -> None:
    """Hear of an optimiser step. Called after each, on the training thread."""


@hookspec
def training_epoch(event: EpochEvent) -> None:
    """Hear of an epoch. Called after its dev evaluation, on the training thread."""


@hookspec
def adapter_stored(name: str, version: int, path: Path) -> None:
    """Hear of a new version, trained, pulled or imported. Called once, when it is visible in the store."""


@hookspec
def adapter_swapped(name: str, old: str | None, new: str) -> None:
    """Hear of a version that was loaded. Called once, when `new` already serves as `name`.

    old, new: versions, such as `ner@3`; old is None where nothing served as `name` before.
    """


@hookspec
def adapter_unloaded(name: str, old: str) -> None:
    """Hear of an unload. Called once, when the version `old`, such as `ner@3`, no longer serves as `name`."""
