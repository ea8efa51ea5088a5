"""Escapes untrusted text for Python and Markdown, and writes numbers and tables in Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

_LONGEST = 120
_JOINERS = "\u200c\u200d"  # not printable to Python, but needed in Persian words and in emoji
_BREAKS = "\t\n\r\xa0\u2028\u2029"
_MARKUP = re.compile(r"[\\`*\[\]<>&|~#!$]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.")


def quoted(text: str) -> str:
    """Return `text` as a Python string literal in double quotes, on one line and printable."""
    escaped = repr(f'{text}"')[1:-2]  # the double quote makes repr() choose single quotes
    return '"' + escaped.replace('"', r"\"") + '"'


def on_one_line(text: str) -> str:
    """Return `text` with line breaks and tabs replaced by spaces, other unprintable characters by U+FFFD."""
    return "".join(c if c.isprintable() or c in _JOINERS else " " if c in _BREAKS else "\ufffd" for c in text)


def code(text: str) -> str:
    """Return `text` as inline code in Markdown, outside tables: one line, no control characters, cut if long."""
    return f"`{_clean(text).replace('`', chr(39)) or ' '}`"


def cell(text: str) -> str:
    """Return `text` as inline code in a cell of a Markdown table."""
    return code(text).replace("|", "\\|")


def plain(text: str) -> str:
    """Return `text` with all Markdown escaped, in tables too: one line, cut if long."""
    return _MARKUP.sub(r"\\\g<0>", _clean(text).strip())


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table. columns, rows: cells that are Markdown already."""
    return "\n".join([_row(columns), f"|{'---|' * len(columns)}", *map(_row, rows)])


def number(value: float | None) -> str:
    """Return an integer as it is, a float with four decimals, and an empty string for None."""
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4f}" if abs(value) < 1e9 else f"{value:.4g}"


def is_number(value: object) -> bool:
    """Tell whether `value` is a number that can be shown: a finite float or a 64-bit int, but not a bool."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |" if cells[0] else f"| | {' | '.join(cells[1:])} |"


def _clean(text: str) -> str:
    line = on_one_line(text[: _LONGEST + 1])
    return line if len(text) <= _LONGEST else f"{line[:_LONGEST]}…"
