"""Records that a program passes instead of a file: mappings, a pandas DataFrame or a `datasets.Dataset`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from onetrunk.core.data.formats.base import Source
from onetrunk.core.data.label_names import names_in_features
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import Record


def object_records(source: Source) -> Iterator[tuple[int, Any]]:
    """Yield (row number, record) for each row of a data frame, or each item of an iterable.

    Missing cells, which pandas writes as NaN, are None; scalars and arrays of numpy are Python's own.
    Raises DataError for several splits, and for two columns of one name.
    """
    source.in_rows = True
    data: Any = source.path
    if isinstance(data, Mapping):
        names = ", ".join(map(str, list(data)[:5]))
        raise DataError(
            source.name, f"has the keys {names}; pass one split, such as data['train'], or a list"
        )
    features: Any = getattr(data, "features", None)
    if callable(getattr(features, "to_dict", None)):
        source.class_names = names_in_features(features.to_dict())
    rows: Iterable[Any] = data
    if callable(getattr(data, "iter_rows", None)):  # polars
        rows = data.iter_rows(named=True)
    elif hasattr(data, "columns") and callable(getattr(data, "to_dict", None)):  # pandas
        if len(set(data.columns)) < len(data.columns):
            raise DataError(source.name, "has two columns of one name; rename or drop one")
        rows = data.to_dict(orient="records")
    for number, row in enumerate(rows, 1):
        yield number, plain_record(row) if isinstance(row, Mapping) else row


def plain_record(row: Mapping[Any, Any]) -> Record:
    """Return a row with values of Python, and without NaN."""
    return {str(key): _plain_value(value) for key, value in row.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, str):
        return str(value)
    if callable(getattr(value, "tolist", None)):  # numpy
        value = value.tolist()
    if (isinstance(value, float) and value != value) or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, list | tuple):
        return [_plain_value(each) for each in value]
    if isinstance(value, Mapping):
        return plain_record(value)
    return value
