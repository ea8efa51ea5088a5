"""Tables of the metrics of each label or entity type."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from onetrunk.cli.number_format import format_metric, scalar_metrics
from onetrunk.cli.output import say, table

_ROWS_SHOWN = 30
"""Maximum number of rows per table; of a longer table, the rows with the lowest f1 are shown."""


def print_label_tables(metrics: Mapping[str, Any], remedy: str, title: str = "") -> None:
    """Print a table for each metric that has rows by label, such as `per_type`.

    remedy: where all rows of a long table are found.  title: added to the first header, such as the split.
    """
    for name, rows in metrics.items():
        if isinstance(rows, Mapping) and rows and all(isinstance(row, Mapping) for row in rows.values()):
            print_rows(f"{name.removeprefix('per_')}{title}", rows, remedy)


def print_rows(name: str, rows: Mapping[str, Mapping[str, Any]], remedy: str) -> None:
    """Print the metrics of each type or label; if there are many, those with the lowest f1 first."""
    shown = list(rows.items())
    if len(shown) > _ROWS_SHOWN:
        shown = sorted(shown, key=lambda row: _f1(row[1]))[:_ROWS_SHOWN]
    say()
    columns = list(dict.fromkeys(key for _, row in shown for key in scalar_metrics(row)))
    cells = ([key, *(format_metric(row.get(column)) for column in columns)] for key, row in shown)
    table((name, *columns), cells, right=columns)
    if len(shown) < len(rows):
        say(f"{len(shown)} of {len(rows)} rows shown (lowest f1 first); {remedy}")


def _f1(row: Mapping[str, Any]) -> float:
    """Return the f1 of a row. It is infinity for a label that does not occur, which then comes last."""
    value = row.get("f1")
    return inf if value is None else float(value)
