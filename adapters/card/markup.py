"""Text of strangers in Python and Markdown: it stays text, whatever is in it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

_LONGEST = 120
_JOINERS = "\u200c\u200d"  # no printable characters to Unicode, but parts of words in Persian and of emoji
_BREAKS = "\t\n\r\xa0\u2028\u2029"
_MARKUP = re.compile(r"[\\`*\[\]<>&|~#!$]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.")


def quoted(text: str) -> str:
    """Return `text` as a string of Python in double quotes, on one line and printable."""
    return f'"{"".join(map(_escape, text))}"'


def on_one_line(text: str) -> str:
    """Return `text` with spaces for line breaks and tabs, and U+FFFD for all else that is not printable."""
    return "".join(c if c.isprintable() or c in _JOINERS else " " if c in _BREAKS else "\ufffd" for c in text)


def code(text: str) -> str:
    """Return `text` as code in Markdown, outside of tables: on one line, no control characters, cut if long."""
    return f"`{_clean(text).replace('`', chr(39)) or ' '}`"


def cell(text: str) -> str:
    """Return `text` as code in a cell of a table."""
    return code(text).replace("|", "\\|")


def plain(text: str) -> str:
    """Return `text` as plain words in Markdown, in tables too: on one line, cut if long."""
    return _MARKUP.sub(r"\\\g<0>", _clean(text).strip())


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; the cells are Markdown already."""
    lines = [_row(columns), f"|{'---|' * len(columns)}", *map(_row, rows)]
    return "\n".join(lines)


def number(value: float | None) -> str:
    """Return a count as it is, anything else with four decimals, and nothing for None."""
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4f}" if abs(value) < 1e9 else f"{value:.4g}"


def is_number(value: object) -> bool:
    """Tell whether `value` is a number that can be shown: a finite float or an int of 64 bits, no bool."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |" if cells[0] else f"| | {' | '.join(cells[1:])} |"


def _clean(text: str) -> str:
    line = on_one_line(text[: _LONGEST + 1])
    return line if len(text) <= _LONGEST else f"{line[:_LONGEST]}…"


def _escape(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    point = ord(character)
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
