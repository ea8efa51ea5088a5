"""`plan.toml`: several adapters to train over one trunk, and the settings of each. No torch is imported.

backbone = "sentence-transformers/all-MiniLM-L6-v2"   # optional; so is precision

[defaults]                 # optional: any setting of `adapters train`
epochs = 5

[[adapters]]
task = "ner"
train = "people.conll"     # files are found from where the plan lies
name = "people"            # optional: that of the task
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
    """One adapter of a plan; files are paths, or None where the plan names none.

    chosen: the settings that the plan gives, its defaults included; start: a reference to train on from.
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
    """What to train over one trunk; backbone None is the default one, or that of the adapters to start from."""

    adapters: tuple[PlannedAdapter, ...]
    backbone: str | None
    precision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """The file; each of its tables is read as the record that follows and as TrainSettings."""

    backbone: Text | None = None
    precision: Text = "auto"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    adapters: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Own:
    """What only the table of an adapter has."""

    task: Text
    train: Text
    name: Text | None = None
    dev: Text | None = None
    test: Text | None = None
    start: Annotated[Text | None, Field(alias="from")] = None


def read_plan(file: str | Path) -> Plan:
    """Read a plan and check its form. Raises PlanError that lists every fault; no data are read yet."""
    path = Path(file)
    try:
        table = load_toml(path)
        content = read(_File, table, TOML_STYLE)
    except (FileFault, RecordFault) as error:
        raise PlanError(str(path), getattr(error, "faults", [str(error)])) from error
    faults = _unknown(table, [own.name for own in fields(_File)])
    faults += [f"defaults: {fault}" for fault in _unknown(content.defaults, _SETTINGS)]
    faults += [] if content.adapters else ["expected one table [[adapters]] or more"]
    adapters = []
    for index, table in enumerate(content.adapters, 1):
        try:
            adapters.append(_adapter(path.parent, table, content))
        except RecordFault as error:
            faults += [f"adapter {index}: {fault}" for fault in error.faults]
    names = [adapter.name for adapter in adapters]
    faults += [
        f"{names.count(name)} adapters are named {name!r}; give each a 'name' of its own"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if faults:
        raise PlanError(str(path), faults)
    return Plan(tuple(adapters), content.backbone, content.precision)


def _adapter(folder: Path, table: Mapping[str, Any], plan: _File) -> PlannedAdapter:
    """Return one adapter, whose files are found from `folder`. Raises RecordFault with all its faults."""
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
    """Return the settings that are given. Raises RecordFault for wrong types, UsageError for wrong values."""
    targets = given.get("targets")
    names = {"targets": [name.strip() for name in targets.split(",")]} if isinstance(targets, str) else {}
    settings = read(TrainSettings, {**given, **names, "precision": precision}, TOML_STYLE)
    if settings.method == "full":
        raise RecordFault(["method 'full' trains no adapter; run it alone, with `adapters train`"])
    return settings


def _unknown(table: Mapping[str, Any], known: Sequence[str]) -> list[str]:
    """Return a fault for each key that is not among those known, written with dashes or without."""
    return [
        f"has the unknown key {key!r}; known: {', '.join(known)}" for key in table if _field(key) not in known
    ]


def _field(key: str) -> str:
    """Return the name of a setting, which may be written as the option is, with dashes."""
    return key.replace("-", "_")
