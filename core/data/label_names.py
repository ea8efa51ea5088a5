"""Names of labels that data give as integers: from `--labels`, or from the features of a `datasets` data set."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onetrunk.adapters.format.files import FileFault
from onetrunk.adapters.format.strict_json import JSON, parse
from onetrunk.core.data.lines import DataSource, is_stream, read_lines
from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.tasks import Labels

INFO_FILE = "dataset_info.json"
"""The file in which `datasets` describes the columns of a data set."""

_MOST_NAMES, _LONGEST_NAME = 100_000, 1_000
_INFO_BYTES = 16 * 2**20


def read_label_names(value: str) -> Labels:
    """Return the names that `--labels` gives.

    value: a file, a JSON list, or names separated by commas. A file is a JSON list, a `dataset_info.json` with one
        list of names, or a text with a name a line; there, and in JSON, a name may contain a comma.
    Raises UsageError, or DataError with the file, for names that are empty or given twice.
    """
    if os.path.isfile(value):
        return _checked(value, _names_of_file(value))
    if value.lstrip().startswith("["):
        return _checked("--labels", _parsed("--labels", value.encode("utf-8")))
    if value.endswith((".json", ".txt")) or os.sep in value:
        raise UsageError(f"--labels: no such file: {value}; give a file, a JSON list, or names with commas")
    return _checked("--labels", value.split(","))


def names_in_features(features: object) -> dict[str, Labels]:
    """Return the names of integer labels by column, from the `features` of a `datasets` data set as JSON."""
    if not isinstance(features, Mapping):
        return {}
    found = {}
    for column, feature in features.items():
        for _ in range(2):  # a list of labels, in one of the spellings of different versions
            inner = feature.get("feature") if isinstance(feature, Mapping) else None
            feature = inner if inner is not None else feature
            feature = feature[0] if isinstance(feature, list) and len(feature) == 1 else feature
        names = feature.get("names") if isinstance(feature, Mapping) else None
        if isinstance(names, list):
            found[str(column)] = _checked(f"the features of column {column}", names)
    return found


def names_beside(path: DataSource) -> dict[str, Labels]:
    """Return the names of integer labels by column from the `dataset_info.json` in the folder of `path`, if any."""
    if not isinstance(path, str | Path) or is_stream(path):
        return {}
    file = Path(path).parent / INFO_FILE
    return names_in_features(_features(str(file), _json_file(file))) if file.is_file() else {}


def _names_of_file(file: str) -> Any:
    if not file.lower().endswith(".json"):
        return [name for _, line in read_lines(file) if (name := line.strip())]
    value = _json_file(Path(file))
    if isinstance(value, list):
        return value
    columns = names_in_features(_features(file, value))
    if len(set(columns.values())) != 1:
        columns_found = ", ".join(columns) or "none"
        raise DataError(
            file, f"expected a list of names, or features with one; found names for: {columns_found}"
        )
    return list(next(iter(columns.values())))


def _features(file: str, value: JSON) -> object:
    found = value.get("features") if isinstance(value, dict) else None
    if not isinstance(found, dict):
        raise DataError(file, 'expected an object with "features", as `datasets` writes it')
    return found


def _json_file(file: Path) -> JSON:
    try:
        with file.open("rb") as stream:
            data = stream.read(_INFO_BYTES + 1)
    except OSError as fault:
        raise DataError(str(file), f"cannot be read: {fault.strerror}") from fault
    return _parsed(str(file), data)


def _parsed(where: str, data: bytes) -> JSON:
    try:
        return parse(data)
    except FileFault as fault:
        raise DataError(where, str(fault)) from fault


def _checked(where: str, names: Any) -> Labels:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(where, "expected a list of names of labels")
    stripped = tuple(name.strip() for name in names)
    if not 0 < len(stripped) <= _MOST_NAMES or any(len(name) > _LONGEST_NAME for name in stripped):
        limits = f"1 to {_MOST_NAMES} names of at most {_LONGEST_NAME} characters"
        raise DataError(where, f"has {len(stripped)} names of labels; expected {limits}")
    most, count = Counter(stripped).most_common(1)[0]
    if "" in stripped or count > 1:
        fault = "an empty name" if "" in stripped else f"the name {most!r} twice"
        raise DataError(where, f"has {fault}; expected different names in the order of the integers")
    return stripped
