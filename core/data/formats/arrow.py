"""Readers of Parquet and Arrow (Feather) files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from onetrunk.adapters.format.files import FileFault
from onetrunk.adapters.format.strict_json import parse
from onetrunk.core.data.formats.base import Source
from onetrunk.core.data.formats.python_objects import plain_record
from onetrunk.core.data.label_names import names_in_features
from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.tasks import Record

_ROWS = 1024
"""Rows that are decoded at a time."""
_GROUP_BYTES = 4 * 2**30
"""The largest row group of a Parquet file, decompressed."""
_COLUMNS = 2000


def read_parquet(source: Source) -> Iterator[tuple[int, Record]]:
    """Yield (row number, record) for each row of a Parquet file; row groups are decoded one after another.

    Columns of bytes, times and other types that JSON lacks are left out, with a note.
    Raises DataError for a broken file and one beyond the limits; UsageError without pyarrow.
    """
    pyarrow = _pyarrow()
    with _faults(source, "Parquet"):
        file = pyarrow.parquet.ParquetFile(source.file)
        columns = _columns(source, file.schema_arrow)
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).total_byte_size
            if size > _GROUP_BYTES:
                limit = f"row group {group + 1} has {size} bytes; the limit is {_GROUP_BYTES}"
                raise DataError(source.name, f"{limit}; write the file with smaller row groups")
        batches = file.iter_batches(batch_size=_ROWS, columns=columns)
        yield from _rows(lambda: next(batches, None))


def read_arrow(source: Source) -> Iterator[tuple[int, Record]]:
    """Yield (row number, record) for each row of an Arrow file or stream, or a Feather file (version 2).

    Raises the errors of `read_parquet`.
    """
    pyarrow = _pyarrow()
    with _faults(source, "Arrow"), pyarrow.memory_map(str(source.file)) as file:
        try:
            reader = pyarrow.ipc.open_file(file)
            count = reader.num_record_batches
            batches = iter(range(count))
            columns = _columns(source, reader.schema)
            yield from _rows(lambda: _batch(reader, batches, columns))
        except pyarrow.ArrowInvalid:
            if file.size() >= 6 and file.read_at(6, 0) == b"ARROW1":
                raise
            file.seek(0)
            stream = pyarrow.ipc.open_stream(file)  # as `datasets` stores it
            columns = _columns(source, stream.schema)
            yield from _rows(lambda: next((each.select(columns) for each in stream), None))


def _batch(reader: Any, numbers: Iterator[int], columns: list[str]) -> Any:
    number = next(numbers, None)
    return None if number is None else reader.get_batch(number).select(columns)


def _rows(following: Callable[[], Any]) -> Iterator[tuple[int, Record]]:
    number = 0
    while (batch := following()) is not None:
        batch.validate(full=True)  # reading offsets beyond a buffer would end the process
        for start in range(0, batch.num_rows, _ROWS):
            for record in batch.slice(start, _ROWS).to_pylist():
                number += 1
                yield number, plain_record(record)


def _columns(source: Source, schema: Any) -> list[str]:
    """Return the names of the columns to read, and take the names of labels from the metadata."""
    source.in_rows = True
    names = list(schema.names)
    if len(names) > _COLUMNS or len(set(names)) < len(names):
        raise DataError(source.name, f"has {len(names)} columns; expected at most {_COLUMNS}, each name once")
    metadata = (schema.metadata or {}).get(b"huggingface")
    if metadata is not None:
        try:
            features = parse(metadata).get("info", {}).get("features")
        except (FileFault, AttributeError) as fault:
            raise DataError(source.name, f"its metadata 'huggingface' cannot be read: {fault}") from fault
        source.class_names = names_in_features(features)
    kept = [name for name in names if _is_plain(schema.field(name).type)]
    if len(kept) < len(names):
        left = [f"{name} ({str(schema.field(name).type)[:40]})" for name in names if name not in kept]
        message = f"columns of types that JSON lacks are left out: {', '.join(left[:5])}"
        source.note("columns-ignored", message, len(left))
    return kept


def _is_plain(type_: Any) -> bool:
    types = _pyarrow().types
    if types.is_dictionary(type_):
        return _is_plain(type_.value_type)
    if types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_):
        return _is_plain(type_.value_type)
    if types.is_struct(type_):
        return all(_is_plain(each.type) for each in type_)
    scalar = (types.is_string, types.is_large_string, types.is_boolean, types.is_integer, types.is_floating)
    return types.is_null(type_) or types.is_string_view(type_) or any(each(type_) for each in scalar)


@contextmanager
def _faults(source: Source, kind: str) -> Iterator[None]:
    pyarrow = _pyarrow()
    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as fault:
        reason = (str(fault).splitlines() or [type(fault).__name__])[0]
        raise DataError(source.name, f"is not a readable {kind} file: {reason[:200]}") from fault


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
        import pyarrow.types
    except ImportError as fault:
        raise UsageError("Parquet and Arrow need pyarrow: pip install 'onetrunk[parquet]'") from fault
    return pyarrow
