"""Reader of `plan.toml`, which describes several adapters to train over one trunk. It does not import torch.

backbone = "sentence-transformers/all-MiniLM-L6-v2"   # optional, as is precision

[defaults]                 # optional: any setting of `adapters train`
epochs = 5

[[adapters]]
task = "ner"
train = "people.conll"     # relative to the folder of the plan
name = "people"            # optional; the default is the task
rank = 8
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from onetrunk.adapters.format.files import FileFault
from onetrunk.adapters.format.records import TOML_STYLE, RecordFault, Text, load_toml, read
from onetrunk.adapters.store.references import validate_name
from onetrunk.core.errors import OneTrunkError, PlanError, UsageError
from onetrunk.core.training.settings import TrainSettings

_OWN = ("task", "name", "train", "dev", "test", "from")
_SETTINGS = tuple(own.name for own in fields(TrainSettings) if own.name != "precision")


@dataclass(frozen=True, slots=True)
class PlannedAdapter:
    """One adapter of a plan.

    task, name: the task, and the name of the adapter in the store.
    train, dev, test: paths of the files; None if the plan does not name them.
    start: the reference of the adapter to start from; None for a new one.
    settings: how to train.
    chosen: the names of the settings that the plan gives, including its defaults.
    """

    task: str
    name: str
    train: str
    dev: str | None
    test: str | None
    start: str | None
    settings: TrainSettings
    chosen: frozenset[str]


@dataclass(frozen=True, slots=True)
class Plan:
    """A training plan.

    adapters: what to train.
    backbone: its name; None for the default, or for that of the adapters to start from.
    precision: of the trunk.
    """

    adapters: tuple[PlannedAdapter, ...]
    backbone: str | None
    precision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """The content of the file. Each table of `adapters` is read as `_Own` and as TrainSettings."""

    backbone: Text | None = None
    precision: Text = "auto"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    adapters: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Own:
    """The keys of an adapter that are not settings."""

    task: Text
    train: Text
    name: Text | None = None
    dev: Text | None = None
    test: Text | None = None
    start: Annotated[Text | None, Field(alias="from")] = None


def read_plan(file: str | Path) -> Plan:
    """Read and check a plan; the data files are not read. Raises PlanError that lists every fault."""
    path = Path(file)
    try:
        table = load_toml(path)
        content = read(_File, table, TOML_STYLE)
    except (FileFault, RecordFault) as error:
        raise PlanError(str(path), getattr(error, "faults", [str(error)])) from error
    faults = _unknown(table, [own.name for own in fields(_File)])
    faults += [f"defaults: {fault}" for fault in _unknown(content.defaults, _SETTINGS)]
    faults += [] if content.adapters else ["expected at least one table [[adapters]]"]
    adapters = []
    for index, table in enumerate(content.adapters, 1):
        try:
            adapters.append(_adapter(path.parent, table, content))
        except RecordFault as error:
            faults += [f"adapter {index}: {fault}" for fault in error.faults]
    names = [adapter.name for adapter in adapters]
    faults += [
        f"{names.count(name)} adapters have the name {name!r}; give each a different 'name'"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if faults:
        raise PlanError(str(path), faults)
    return Plan(tuple(adapters), content.backbone, content.precision)


def _adapter(folder: Path, table: Mapping[str, Any], plan: _File) -> PlannedAdapter:
    """Return one adapter; its files are relative to `folder`. Raises RecordFault that lists every fault."""
    faults = _unknown(table, (*_OWN, *_SETTINGS))
    given = {
        _field(key): value
        for key, value in [*plan.defaults.items(), *table.items()]
        if _field(key) in _SETTINGS
    }
    own, settings = None, None
    try:
        own = read(_Own, {key: table[key] for key in _OWN if key in table}, TOML_STYLE)
        validate_name(own.name or own.task)
    except (RecordFault, OneTrunkError) as error:
        faults += getattr(error, "faults", [str(error)])
    try:
        settings = _settings(given, plan.precision)
    except (RecordFault, UsageError) as error:
        faults += getattr(error, "faults", [str(error)])
    if faults or own is None or settings is None:
        raise RecordFault(faults)
    return PlannedAdapter(
        task=own.task,
        name=own.name or own.task,
        train=str(folder / own.train),
        dev=own.dev and str(folder / own.dev),
        test=own.test and str(folder / own.test),
        start=own.start,
        settings=settings,
        chosen=frozenset(given),
    )


def _settings(given: Mapping[str, Any], precision: str) -> TrainSettings:
    """Return the settings in `given`. Raises RecordFault for wrong types, UsageError for wrong values."""
    targets = given.get("targets")
    names = {"targets": [name.strip() for name in targets.split(",")]} if isinstance(targets, str) else {}
    settings = read(TrainSettings, {**given, **names, "precision": precision}, TOML_STYLE)
    if settings.method == "full":
        raise RecordFault(["method 'full' trains no adapter; run it alone, with `adapters train`"])
    return settings


def _unknown(table: Mapping[str, Any], known: Sequence[str]) -> list[str]:
    """Return a fault for each key that is not in `known`. Keys may have `-` in place of `_`."""
    return [
        f"has the unknown key {key!r}; known: {', '.join(known)}" for key in table if _field(key) not in known
    ]


def _field(key: str) -> str:
    """Return the name of a setting; the file may spell it like the option, with dashes."""
    return key.replace("-", "_")
