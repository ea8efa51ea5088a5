"""Reader of CSV and TSV files with a header."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from onetrunk.core.data.columns import is_usual_header
from onetrunk.core.data.formats.base import Source
from onetrunk.core.data.lines import NumberedLine
from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.tasks import Record

MAX_COLUMNS = 10_000
"""The largest number of columns."""
MAX_CELL = 16 * 2**20
"""The longest cell that commands read, in characters. A process that uses the library sets csv.field_size_limit."""

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_EXCEL_FIRST_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_SPACE_BEFORE_QUOTE = re.compile(r' +".*"\s*\Z', re.DOTALL)
_SAMPLE_LINES, _SAMPLE_CHARACTERS = 1000, 2**20


def read_table(source: Source, *, delimiter: str) -> Iterator[tuple[int, Record]]:
    """Yield (line number where the row starts, {column: cell}) for each row below the header, without blank lines.

    delimiter: of the suffix. Another one is used with a note if it alone divides the header and the line below into
        the same number of cells, or if Excel's line `sep=;` names it.
    Where quotation marks enclose cells (see `ReadOptions.quoting`), a cell can contain delimiters, line ends and
    doubled quotation marks. White space around column names is removed; cells are kept as they are. A first column
    without a name and empty columns at the end are left out, with a note.
    Raises DataError, with file and line, for other columns without a name, a duplicate column, too many columns,
    and a row whose number of cells differs from that of the header; UsageError for an invalid `--delimiter`.
    """
    sample = _peek(source, 2)
    delimiter = _delimiter(source, sample, delimiter)
    table = _Table(source, delimiter, quoted=_is_quoted(source, delimiter))
    yield from table.records()


@dataclass(slots=True)
class _Table:
    """A table, read row by row. quoted: whether quotation marks enclose cells."""

    source: Source
    delimiter: str
    quoted: bool
    header: list[str] = field(default_factory=list)
    index: bool = False  # whether the first column has no name
    line: NumberedLine = (0, "")  # the last one that was parsed
    started: bool = False  # whether a row was read

    def records(self) -> Iterator[tuple[int, Record]]:
        rows = self._rows()
        number, names = next(rows, (0, []))
        if not names:
            return
        self._set_header(f"{self.source.name}:{number}", names)
        row = None
        for number, row in rows:
            cells = self._cells(f"{self.source.name}:{number}", row)
            if cells is not None:
                yield number, dict(zip(self.header, cells, strict=True))
        if row is None:
            shown = ", ".join(self.header)
            raise DataError(
                self.source.name, f"has a header ({shown}) but no rows; expected at least one row"
            )

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield (line number where the row starts, cells) for the header and each row that is not blank."""
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        reader = csv.reader(self._texts(), delimiter=self.delimiter, quoting=quoting, strict=True)
        before: int | None = None  # the number of the last line of the row before
        try:
            for row in reader:
                first = 1 + (self.line[0] - reader.line_num if before is None else before)
                before = self.line[0]
                if row:
                    yield first, row
        except csv.Error as fault:
            hint = 'a cell that begins with " must end with ", and each " inside it must be doubled'
            if self.quoted:
                hint += "; if quotation marks are text, --quoting none"
            if "field limit" in str(fault):
                hint = "if the cell is really that long, raise the limit with csv.field_size_limit"
            raise DataError(
                f"{self.source.name}:{1 + (before or 0)}", f"cannot be parsed as a row: {fault}; {hint}"
            ) from fault

    def _texts(self) -> Iterator[str]:
        for line in self.source.lines():
            self.line = line
            yield line[1]

    def _set_header(self, where: str, names: Sequence[str]) -> None:
        if len(names) > MAX_COLUMNS:
            raise DataError(where, f"the header has {len(names):,} columns; at most {MAX_COLUMNS:,} are read")
        header = [name.strip() for name in names]
        while len(header) > 1 and not header[-1]:
            header.pop()
        if len(header) > 1 and not header[0]:
            self.index = True
            header = header[1:]
            message = "the first column has no name: it is an index, which is left out"
            self.source.note("index-column", message, where=where)
        if "" in header:
            at = header.index("") + 1 + self.index
            raise DataError(where, f"column {at} of the header has no name; name it or remove it")
        twice = [name for at, name in enumerate(header) if name in header[:at]]
        if twice:
            raise DataError(where, f"the header names column {twice[0]!r} twice; rename or remove one")
        self.header = header

    def _cells(self, where: str, row: list[str]) -> list[str] | None:
        """Return the cells below the names of the header, None for a row that is left out with a note."""
        if not any(row) and len(row) > 1 and '"' not in self.line[1]:
            self.source.tally.add("blank-rows", "rows of empty cells are left out", where)
            return None
        cells = row[1:] if self.index else row
        width = len(self.header)
        if len(cells) != width and not (len(cells) > width and not any(cells[width:])):
            raise DataError(where, self._wrong_width(row))
        if len(cells) > width:
            self.source.tally.add(
                "empty-columns", "rows end with empty cells without a column, which are left out", where
            )
        cells = cells[:width]
        if cells == self.header:
            self.source.tally.add("repeated-headers", "rows repeat the header and are left out", where)
            return None
        if not self.started and is_usual_header(cells) and not is_usual_header(self.header):
            raise DataError(where, f"is a second header ({', '.join(cells)}); remove the lines above it")
        self.started = True
        if not self.quoted and any(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells):
            message = "rows have cells in quotation marks, which are read as text; --quoting csv removes them"
            self.source.tally.add("quotation-marks", message, where)
        if self.quoted and any(map(_SPACE_BEFORE_QUOTE.match, cells)):
            message = (
                "rows have a space before a quotation mark, which is read as text; remove the spaces after the "
                "delimiters"
            )
            self.source.tally.add("quotation-marks", message, where)
        return cells

    def _wrong_width(self, row: Sequence[str]) -> str:
        cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
        shown = ", ".join(self.header[:20])
        message = f"has {cells}; expected {len(self.header) + self.index}, as in the header: {shown}"
        if not self.quoted and '"' in self.line[1]:
            message += "; if quotation marks enclose cells, --quoting csv"
        return message


def _peek(source: Source, count: int) -> list[str]:
    """Return the first `count` lines that are not blank; `source` still yields all lines."""
    lines = source.lines()
    seen: list[NumberedLine] = []
    found: list[str] = []
    held = 0
    for line in lines:
        seen.append(line)
        held += len(line[1])
        if line[1].strip():
            found.append(line[1])
        if len(found) == count or held > _SAMPLE_CHARACTERS:
            break
    source.numbered = chain(seen, lines)
    return found


def _delimiter(source: Source, sample: Sequence[str], usual: str) -> str:
    """Return the delimiter: of `--delimiter`, of Excel's line `sep=;`, or of the header."""
    excel = _EXCEL_FIRST_LINE.fullmatch(sample[0]) if sample else None
    if excel:
        lines = source.lines()
        source.numbered = (line for line in lines if not _EXCEL_FIRST_LINE.fullmatch(line[1]) or line[0] > 1)
    given = source.options.delimiter
    if given is not None:
        return _checked(given)
    found = usual
    if excel:
        found = excel[1]
    elif sample and _width(sample[0], usual) == 1:
        widths = {each: [_width(line, each) for line in sample] for each in _DELIMITERS}
        fitting = [each for each, own in widths.items() if own[0] > 1 and len(set(own)) == 1]
        found = max(fitting, key=lambda each: widths[each][0], default=usual)
    if found != usual:
        name = _DELIMITERS.get(found, found)
        message = f"cells are divided at the {name}, as in the header; --delimiter names another delimiter"
        source.note("delimiter", message, where=f"{source.name}:1")
    return found


def _width(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter), [""]))
    except csv.Error:
        return 0


def _checked(given: str) -> str:
    delimiter = {"\\t": "\t", "tab": "\t"}.get(given, given)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise UsageError(f"--delimiter is {given!r}; expected one character, such as ';', or tab")
    return delimiter


def _is_quoted(source: Source, delimiter: str) -> bool:
    """Return whether quotation marks enclose cells: always in CSV, in TSV if the first lines show it."""
    quoting = source.options.quoting
    if quoting != "auto" or delimiter != "\t":
        return quoting != "none"
    lines = [line.rstrip("\r\n") for line in _peek(source, _SAMPLE_LINES)]
    plain = [line.split(delimiter) for line in lines]
    quoted = [cell for row in plain for cell in row if '"' in cell]
    if not quoted:
        return False
    if any(map(_is_enclosed, plain[0])):
        return True
    if len({len(row) for row in plain}) == 1:
        return all(map(_is_enclosed, quoted)) and any('""' in cell[1:-1] for cell in quoted)
    try:
        rows = list(csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, strict=True))
    except csv.Error:
        return False
    return len({len(row) for row in rows}) == 1


def _is_enclosed(cell: str) -> bool:
    inner = cell[1:-1]
    return len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
