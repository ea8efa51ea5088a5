"""Options that say how a data file is to be read, where the file itself leaves it open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read data files. The defaults take what the file says, and guess the rest with a note.

    format: name of a reader of `onetrunk.core.data.readers`; None takes the suffix or the first lines.
    encoding: name of a text encoding; None means UTF-8, or a guess with a note if the file is not UTF-8.
    delimiter: of tables; None takes the suffix or the header.
    quoting: of tables: `csv` if a cell that begins with `"` ends with `"`; `none` if quotation marks are text;
        `auto` is `csv` for CSV, and `none` for TSV unless its first lines can only be read as enclosed cells.
    text_column, label_column: the columns, or keys, with the text and the label; None takes `text` and `label`, or
        guesses a usual name with a note.
    labels: the names of labels that the file gives as integers, in the order of the integers, from 0; () takes the
        names that the file, or a `dataset_info.json` beside it, lists.
    columns: of CoNLL: the number, from 1, of the columns `word` and `tag`.
    offsets: the unit of the offsets of entities: Unicode characters, or UTF-16 code units (JavaScript, Java).
    nested: what to do with entities that overlap: `refuse` the record, or keep the `longest`.
    strict: whether notes that make the result doubtful are errors.
    """

    format: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quoting: Literal["auto", "csv", "none"] = "auto"
    text_column: str | None = None
    label_column: str | None = None
    labels: tuple[str, ...] = ()
    columns: Mapping[str, int] = field(default_factory=dict)
    offsets: Literal["characters", "utf16"] = "characters"
    nested: Literal["refuse", "longest"] = "refuse"
    strict: bool = False


AS_WRITTEN = ReadOptions()
"""The defaults."""
