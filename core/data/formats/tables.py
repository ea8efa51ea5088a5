"""Reader of CSV and TSV files with a header."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence

from onetrunk.core.data.formats.base import Source
from onetrunk.core.data.lines import NumberedLine
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import Record


def read_table(source: Source, *, delimiter: str) -> Iterator[tuple[int, Record]]:
    """Yield (line number where the row starts, {column: cell}) for each row below the header, without blank lines.

    A quoted cell can contain delimiters, line ends and doubled quotes, as in the csv module. White space around
    column names is removed; cells are kept as they are.

    Raises DataError, with file and line, for a column without a name, a duplicate column, and a row whose
    number of cells differs from that of the header.
    """
    name = source.name
    rows = _table_rows(name, source.lines(), delimiter)
    number, names = next(rows, (0, []))
    header = _header(f"{name}:{number}", names) if names else []
    row = None
    for number, row in rows:
        if len(row) != len(header):
            cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
            raise DataError(
                f"{name}:{number}",
                f"has {cells}; expected {len(header)}, as in the header: {', '.join(header)}",
            )
        yield number, dict(zip(header, row, strict=True))
    if header and row is None:
        raise DataError(name, f"has a header ({', '.join(header)}) but no rows; expected at least one row")


def _table_rows(name: str, lines: Iterable[NumberedLine], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number where the row starts, cells) for the header and each row that is not blank."""
    reader = csv.reader((text for _, text in lines), delimiter=delimiter, strict=True)
    first = 1
    try:
        for row in reader:
            if row:
                yield first, row
            first = reader.line_num + 1
    except csv.Error as fault:
        hint = 'a cell that begins with " must end with ", and each " inside it must be doubled'
        if "field limit" in str(fault):
            hint = "if the cell is really that long, raise the limit with csv.field_size_limit"
        raise DataError(f"{name}:{first}", f"cannot be parsed as a row: {fault}; {hint}") from fault


def _header(where: str, names: Sequence[str]) -> list[str]:
    header = [name.strip() for name in names]
    if "" in header:
        raise DataError(
            where, f"column {header.index('') + 1} of the header has no name; name it or remove it"
        )
    twice = [name for at, name in enumerate(header) if name in header[:at]]
    if twice:
        raise DataError(where, f"the header names column {twice[0]!r} twice; rename or remove one")
    return header
