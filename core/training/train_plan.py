"""Reader of `plan.toml`, which describes several adapters to train over one trunk. Does not import torch.

backbone = "sentence-transformers/all-MiniLM-L6-v2"   # optional
precision = "fp32"                                    # optional

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

_NOT_SETTINGS = ("task", "name", "train", "dev", "test", "from")
_SETTINGS = tuple(setting.name for setting in fields(TrainSettings) if setting.name != "precision")


@dataclass(frozen=True, slots=True, kw_only=True)
class _AdapterTable:
    """The keys of a table of `adapters` that are not settings."""

    task: Text
    train: Text
    name: Text = ""
    dev: Text | None = None
    test: Text | None = None
    start: Annotated[Text | None, Field(alias="from")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedAdapter(_AdapterTable):
    """One adapter of a plan.

    name: the name of the adapter in the store.
    train, dev, test: the paths of the data files; None for a file that the plan does not name.
    start: the reference of the adapter to start from; None to start from new weights.
    chosen: the names of the settings that the plan gives, in the table of the adapter or as defaults.
    """

    settings: TrainSettings
    chosen: frozenset[str]


@dataclass(frozen=True, slots=True)
class Plan:
    """A training plan.

    backbone: the name of the backbone. None for the backbone of the adapters to start from, or else the default
        one.
    precision: the precision of the trunk, such as `fp32` or `auto`.
    """

    adapters: tuple[PlannedAdapter, ...]
    backbone: str | None
    precision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlanFile:
    """The content of the file. Each table of `adapters` is read as `_AdapterTable` and as TrainSettings."""

    backbone: Text | None = None
    precision: Text = "auto"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    adapters: tuple[dict[str, Any], ...] = ()


def read_plan(file: str | Path) -> Plan:
    """Read and check a plan, without its data files. Raises PlanError, which lists all faults."""
    path = Path(file)
    try:
        table = load_toml(path)
        content = read(_PlanFile, table, TOML_STYLE)
    except (FileFault, RecordFault) as error:
        raise PlanError(str(path), getattr(error, "faults", [str(error)])) from error
    faults = _unknown(table, [key.name for key in fields(_PlanFile)])
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


def _adapter(folder: Path, table: Mapping[str, Any], plan: _PlanFile) -> PlannedAdapter:
    """Return the adapter that `table` describes. Raises RecordFault, which lists all faults.

    folder: the folder of the plan; the paths of the data files are relative to it.
    """
    faults = _unknown(table, (*_NOT_SETTINGS, *_SETTINGS))
    keys = {key.replace("-", "_"): value for key, value in [*plan.defaults.items(), *table.items()]}
    given = {key: value for key, value in keys.items() if key in _SETTINGS}
    own, settings = None, None
    try:
        own = read(_AdapterTable, {key: table[key] for key in _NOT_SETTINGS if key in table}, TOML_STYLE)
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
    """Return the settings `given`. Raises RecordFault for wrong types, UsageError for wrong values."""
    targets = given.get("targets")
    names = {"targets": [name.strip() for name in targets.split(",")]} if isinstance(targets, str) else {}
    settings = read(TrainSettings, {**given, **names, "precision": precision}, TOML_STYLE)
    if settings.method == "full":
        raise RecordFault(["method 'full' trains no adapter; run it alone, with `adapters train`"])
    return settings


def _unknown(table: Mapping[str, Any], known: Sequence[str]) -> list[str]:
    """Return a message for each key that is not in `known`. A key may have `-` in place of `_`."""
    unknown = [key for key in table if key.replace("-", "_") not in known]
    return [f"has the unknown key {key!r}; known: {', '.join(known)}" for key in unknown]
