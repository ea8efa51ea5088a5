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

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from onetrunk.adapters.store.references import validate_name
from onetrunk.core.errors import OneTrunkError, PlanError, UsageError
from onetrunk.core.training.settings import TrainSettings

_TOP = ("backbone", "precision", "defaults", "adapters")
_FILES = ("train", "dev", "test")
_OWN = ("task", "name", *_FILES, "from")
_SETTINGS = tuple(field.name for field in fields(TrainSettings) if field.name != "precision")
_KINDS: dict[str, type | tuple[type, ...]] = {
    "int": int,
    "int | None": int,
    "float": (int, float),
    "float | None": (int, float),
    "str": str,
}


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


def read_plan(file: str | Path) -> Plan:
    """Read a plan and check its form. Raises PlanError that lists every fault; no data are read yet."""
    path = Path(file)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(str(path), [f"cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise PlanError(str(path), [f"is not UTF-8: {error.reason} at byte {error.start}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise PlanError(str(path), [f"is not TOML: {error}"]) from error
    return _Reader(path, content).plan()


class _Reader:
    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self._path, self._content = path, content
        self._faults: list[str] = []

    def plan(self) -> Plan:
        content = self._content
        self._unknown("the plan", content, _TOP)
        precision = self._text("the plan", content, "precision") or "auto"
        defaults = content.get("defaults", {})
        tables = content.get("adapters", [])
        if not isinstance(defaults, dict):
            self._faults.append("defaults must be a table, [defaults]")
            defaults = {}
        if not isinstance(tables, list) or not tables or not all(isinstance(own, dict) for own in tables):
            self._faults.append("expected one table [[adapters]] or more")
            tables = []
        self._unknown("[defaults]", defaults, _SETTINGS)
        adapters = [self._adapter(i, own, defaults, precision) for i, own in enumerate(tables, 1)]
        self._no_name_twice([adapter.name for adapter in adapters if adapter is not None])
        backbone = self._text("the plan", content, "backbone")
        if self._faults:
            raise PlanError(str(self._path), self._faults)
        return Plan(tuple(adapter for adapter in adapters if adapter is not None), backbone, precision)

    def _adapter(
        self, index: int, own: Mapping[str, Any], defaults: Mapping[str, Any], precision: str
    ) -> PlannedAdapter | None:
        where, before = f"adapter {index}", len(self._faults)
        self._unknown(where, own, (*_OWN, *_SETTINGS))
        texts = {key: self._text(where, own, key) for key in _OWN}
        self._faults += [f"{where}: {key!r} is missing" for key in ("task", "train") if not own.get(key)]
        name = texts["name"] or texts["task"] or ""
        given = {
            _field(key): value for key, value in [*defaults.items(), *own.items()] if _field(key) in _SETTINGS
        }
        settings = self._settings(where, given, precision)
        if len(self._faults) > before or settings is None:
            return None
        try:
            validate_name(name)
        except OneTrunkError as error:
            self._faults.append(f"{where}: {error}")
        train, dev, test = (self._file(texts[split]) for split in _FILES)
        task, start = texts["task"] or "", texts["from"]
        return PlannedAdapter(task, name, train or "", dev, test, start, settings, frozenset(given))

    def _settings(self, where: str, given: dict[str, Any], precision: str) -> TrainSettings | None:
        if isinstance(targets := given.get("targets"), str):
            names = [name.strip() for name in targets.split(",")]
            given["targets"] = tuple(names)
        elif isinstance(targets, list) and all(isinstance(name, str) for name in targets):
            given["targets"] = tuple(targets)
        elif targets is not None:
            self._faults.append(f"{where}: targets must be a list of names, not {targets!r}")
            return None
        kinds = {field.name: str(field.type) for field in fields(TrainSettings)}
        for key, value in given.items():
            kind = _KINDS.get(kinds[key])
            if kind is not None and (not isinstance(value, kind) or isinstance(value, bool)):
                self._faults.append(f"{where}: {key} must be of type {kinds[key].split()[0]}, not {value!r}")
                return None
        try:
            settings = TrainSettings(**given, precision=precision)
        except UsageError as error:
            self._faults.append(f"{where}: {error}")
            return None
        if settings.method == "full":
            self._faults.append(
                f"{where}: method 'full' trains no adapter; run it alone, with `adapters train`"
            )
        return settings

    def _unknown(self, where: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
        self._faults += [
            f"{where}: unknown key {key!r}; known: {', '.join(known)}"
            for key in table
            if _field(key) not in known
        ]

    def _text(self, where: str, table: Mapping[str, Any], key: str) -> str | None:
        value = table.get(key)
        if value is not None and (not isinstance(value, str) or not value):
            self._faults.append(f"{where}: {key} must be a text that is not empty, not {value!r}")
            return None
        return value

    def _file(self, name: str | None) -> str | None:
        return None if name is None else str(self._path.parent / name)

    def _no_name_twice(self, names: Sequence[str]) -> None:
        for name in sorted({name for name in names if names.count(name) > 1}):
            self._faults.append(
                f"{names.count(name)} adapters are named {name!r}; give each a 'name' of its own"
            )


def _field(key: str) -> str:
    """Return the name of a setting, which may be written as the option is, with dashes."""
    return key.replace("-", "_")
