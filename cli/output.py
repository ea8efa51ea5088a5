"""What all commands print with: JSON for scripts, tables for people, and nothing that moves a terminal.

Text of users and files is foreign: a file name or a label may hold escape sequences that recolour, overwrite
or retitle a terminal, or signs that turn the direction of writing. They are shown, never obeyed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import wraps
from pathlib import Path
from typing import Any, TextIO

import click

from onetrunk.cli.streams import Opener, open_told, told

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (C0, DEL, C1), line separators, overrides of direction, halves of surrogate pairs."""

_UNLIMITED = 100_000
"""Columns of a table that no terminal shows: a program that reads it must not meet wrapped cells."""

_LONGEST = 60
"""Letters of a file's name that the name of the file written aside has, too: with all it might be too long."""

_RESULTS = "onetrunk.results"
"""Where a command's context keeps the stdout that is for its results."""


def json_option(body: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flag `--json` as the argument `as_json`, and keep stdout for its results.

    While the command runs, what plugins and libraries print goes to stderr; `say`, `table` and `emit_json` print to
    stdout.
    """

    @wraps(body)
    def command(*arguments: Any, **options: Any) -> None:
        click.get_current_context().meta[_RESULTS] = sys.stdout
        with redirect_stdout(sys.stderr):
            body(*arguments, **options)

    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(command)


def results() -> TextIO:
    """Return the stdout of this command, wherever `print` goes."""
    context = click.get_current_context(silent=True)
    kept: TextIO | None = None if context is None else context.meta.get(_RESULTS)
    return sys.stdout if kept is None else kept


def say(text: str | bytes = "", *, fg: str | None = None, color: bool | None = None) -> None:
    """Print a line of the results. fg: a colour of click's; color: as for `click.echo`."""
    click.echo(text if fg is None else click.style(text, fg=fg), file=results(), color=color)


def printable(text: str, keep: str = "") -> str:
    r"""Return `text` with every unsafe character outside `keep` as its escape, such as `\x1b` or `\n`."""

    def escape(match: re.Match[str]) -> str:
        sign = match.group()
        return sign if sign in keep else sign.encode("unicode_escape").decode("ascii")

    return _UNSAFE.sub(escape, text)


def json_line(obj: object) -> str:
    """Return `obj` as JSON without a line break. Raises ValueError for NaN and infinity, which JSON lacks."""
    text = json.dumps(obj, ensure_ascii=False, allow_nan=False)
    # json leaves DEL, C1 and the like as they are; inside a string their \u form means the same.
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def emit_json(obj: object) -> None:
    """Print `json_line(obj)`, in UTF-8 whatever the encoding of stdout."""
    say(json_line(obj).encode("utf-8"))


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Open `path` for writing UTF-8; what is written appears there when the block ends without an error, whole.

    A file that was there before keeps its permissions. What is no regular file, such as a device or a pipe, is
    written directly. Raises UsageError for a place that cannot be written to, and when it is full.
    """
    target = Path(os.path.realpath(path))  # a link stays, and what it leads to is replaced
    with told(str(path)):
        before = _mode(target)
    if before is not None and not stat.S_ISREG(before):
        with open_told(target, "w", str(path)) as file:
            yield file
        return
    aside = target.with_name(f".{target.name[:_LONGEST]}.{secrets.token_hex(4)}.part")
    try:
        with open_told(aside, "x", str(path), _opener(before)) as file:
            yield file
        with told(str(path)):
            aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def _mode(target: Path) -> int | None:
    """Return kind and permissions of the file that is there, None if none is."""
    try:
        return target.stat().st_mode
    except FileNotFoundError:
        return None


def _opener(before: int | None) -> Opener:
    """Return what creates a file that never has more permissions than `before`; None: the usual ones."""

    def create(name: str, flags: int) -> int:
        descriptor = os.open(name, flags, 0o666 if before is None else 0o600)
        if before is not None:
            os.fchmod(descriptor, stat.S_IMODE(before))
        return descriptor

    return create


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Collection[str] = ()) -> None:
    """Print a table: the heads `columns`, the cells of `rows` as text, flush right in the columns `right`.

    On a terminal long cells fold at its width; elsewhere each row is one line.
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
    with console.capture() as captured:
        console.print(grid)
    # Printed by click, which flushes, so that a closed pipe is met here; rich has already decided on colour.
    say("\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n"), color=True)
