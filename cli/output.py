"""Output of all commands: JSON for scripts, tables for people.

File names, labels and texts can have control characters, terminal escape sequences or characters that change the
writing direction. These are printed as visible escapes.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import wraps
from math import inf
from typing import TYPE_CHECKING, Any, TextIO

import click

from onetrunk.cli.number_format import format_metric, scalar_metrics

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from onetrunk.core.data.notes import Note

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (C0, DEL, C1), line separators, direction overrides and lone surrogates."""

_UNLIMITED = 100_000
"""Width, in characters, of tables that are not written to a terminal, so that cells are not wrapped."""

_ROWS_SHOWN = 30
"""Maximum number of rows per table; of a longer table, the rows with the lowest f1 are shown."""
_HIDDEN = "[hidden]"
_SECRET_PATTERNS = (
    re.compile(r"\bhf_[A-Za-z0-9_]{8,}"),
    re.compile(r"(?<=://)[^\s/@'\"]+(?=@)"),  # user and password of a URL
    re.compile(r"(?i)(?<=bearer )[^\s'\",;]+"),
    re.compile(r"(?i)(?<=\btoken[=:])\s*['\"]?[^\s'\",;)]{8,}"),
)
_SECRET_NAMES = re.compile(r"(?i)token|secret|password|api_?key")
_MIN_CHARACTERS = 8
"""Shorter values of variables are not hidden: they could be ordinary words."""

_RESULTS = "onetrunk.results"
"""Key of the stdout for results in the context of a command."""


def json_option(body: Callable[..., None]) -> Callable[..., None]:
    """Add the flag `--json`, passed as `as_json`, and reserve stdout for results.

    While the command runs, only `say`, `table` and `emit_json` write to stdout. What plugins and libraries print
    goes to stderr.
    """

    @wraps(body)
    def command(*arguments: Any, **options: Any) -> None:
        click.get_current_context().meta[_RESULTS] = sys.stdout
        with redirect_stdout(sys.stderr):
            body(*arguments, **options)

    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(command)


def print_notes(notes: Iterable[Note], prefix: str = "") -> None:
    """Print one line for each note on stderr, after `prefix`."""
    for each in notes:
        note(f"{prefix}{each}")


def results() -> TextIO:
    """Return the stdout for the results of the command that runs."""
    context = click.get_current_context(silent=True)
    kept: TextIO | None = None if context is None else context.meta.get(_RESULTS)
    return sys.stdout if kept is None else kept


def say(text: str = "", *, fg: str | None = None) -> None:
    """Print a line of results, its unsafe characters as escapes. fg: name of a text colour."""
    safe = printable(text)
    click.echo(safe if fg is None else click.style(safe, fg=fg), file=results())


def note(text: str) -> None:
    """Print a line for people on stderr, its unsafe characters as escapes."""
    click.echo(printable(text), err=True)


def show(console: Console, renderable: RenderableType, *, soft_wrap: bool = False) -> None:
    """Print what `console` renders as results, without spaces at the ends of lines."""
    with console.capture() as captured:
        console.print(renderable, soft_wrap=soft_wrap)
    lines = "\n".join(line.rstrip() for line in captured.get().splitlines())
    # rich has applied the colours; click flushes, so a closed pipe raises here.
    click.echo(lines.strip("\n"), file=results(), color=True)


def printable(text: str, keep: str = "") -> str:
    r"""Return `text` with each unsafe character, except those in `keep`, as an escape such as `\x1b` or `\n`."""

    def escape(match: re.Match[str]) -> str:
        sign = match.group()
        return sign if sign in keep else sign.encode("unicode_escape").decode("ascii")

    return _UNSAFE.sub(escape, text)


def json_line(obj: object) -> str:
    """Return `obj` as one line of JSON. Raises ValueError for NaN and infinity."""
    text = json.dumps(obj, ensure_ascii=False, allow_nan=False)
    # json.dumps leaves some of these characters unescaped. In a JSON string, the escape means the same character.
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def emit_json(*objects: object) -> None:
    """Print `json_line` of each object, always in UTF-8."""
    for each in objects:
        click.echo(json_line(each).encode("utf-8"), file=results())


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Collection[str] = ()) -> None:
    """Print a table. columns: headers. rows: cells. right: headers of the columns that are aligned to the right.

    On a terminal, long cells continue on the next line; elsewhere, each row is one line.
    """
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=results(), width=None if results().isatty() else _UNLIMITED)
    grid = Table(box=SIMPLE, pad_edge=False)
    for column in columns:
        grid.add_column(
            Text(printable(column)), overflow="fold", justify="right" if column in right else "left"
        )
    for row in rows:
        grid.add_row(*(Text(printable(str(cell))) for cell in row))
    show(console, grid)


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


def safe_traceback(error: BaseException) -> str:
    """Return the traceback of `error` without tokens, and with control characters as escapes."""
    text = "".join(traceback.format_exception(error)).rstrip("\n")
    secrets = {
        value
        for name, value in os.environ.items()
        if _SECRET_NAMES.search(name) and len(value) >= _MIN_CHARACTERS and not os.path.exists(value)
    }
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    for pattern in _SECRET_PATTERNS:
        text = pattern.sub(_HIDDEN, text)
    return printable(text, keep="\n\t")
