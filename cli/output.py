"""Output of all commands: JSON for scripts, tables for people, and safe text.

File names, labels and texts can hold terminal escape sequences or characters that change the writing direction.
They are printed as visible escapes.
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
from typing import TYPE_CHECKING, Any, TextIO

import click

from onetrunk.cli.streams import Opener, clear_errors, open_output

if TYPE_CHECKING:
    from onetrunk.core.data.notes import Note

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (C0, DEL, C1), line separators, direction overrides and lone surrogates."""

_UNLIMITED = 100_000
"""Width of tables that are not written to a terminal, so that cells are not wrapped."""

_LONGEST = 60
"""Characters of a file name used in the name of its temporary file, so that it does not get too long."""

_RESULTS = "onetrunk.results"
"""Key in the context of a command: the stdout for its results."""


def json_option(body: Callable[..., None]) -> Callable[..., None]:
    """Add the flag `--json`, passed as `as_json`, and reserve stdout for results.

    While the command runs, output of plugins and libraries goes to stderr. `say`, `table` and `emit_json` write to
    stdout.
    """

    @wraps(body)
    def command(*arguments: Any, **options: Any) -> None:
        click.get_current_context().meta[_RESULTS] = sys.stdout
        with redirect_stdout(sys.stderr):
            body(*arguments, **options)

    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(command)


def results() -> TextIO:
    """Return the stdout for the results of this command."""
    context = click.get_current_context(silent=True)
    kept: TextIO | None = None if context is None else context.meta.get(_RESULTS)
    return sys.stdout if kept is None else kept


def say(text: str | bytes = "", *, fg: str | None = None, color: bool | None = None) -> None:
    """Print a line of results. fg: foreground colour; color: as in `click.echo`."""
    click.echo(text if fg is None else click.style(text, fg=fg), file=results(), color=color)


def printable(text: str, keep: str = "") -> str:
    r"""Return `text` with each unsafe character, except those in `keep`, as an escape such as `\x1b` or `\n`."""

    def escape(match: re.Match[str]) -> str:
        sign = match.group()
        return sign if sign in keep else sign.encode("unicode_escape").decode("ascii")

    return _UNSAFE.sub(escape, text)


def print_notes(notes: Iterable[Note], subject: str = "") -> None:
    """Print one line per note on stderr, after the name `subject` if one is given."""
    for note in notes:
        click.echo(printable(f"{subject}: {note}" if subject else str(note)), err=True)


def json_line(obj: object) -> str:
    """Return `obj` as one line of JSON. Raises ValueError for NaN and infinity."""
    text = json.dumps(obj, ensure_ascii=False, allow_nan=False)
    # json does not escape DEL and C1; inside a string their \u form is equal.
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def emit_json(obj: object) -> None:
    """Print `json_line(obj)`, always in UTF-8."""
    say(json_line(obj).encode("utf-8"))


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Open `path` for writing UTF-8; the file is replaced as a whole when the block ends without an error.

    An existing file keeps its permissions. A device or a pipe is written to directly. Raises UsageError if the file
    cannot be written or the disk is full.
    """
    target = Path(os.path.realpath(path))  # a symbolic link is kept; its target is replaced
    with clear_errors(str(path)):
        before = _mode(target)
    if before is not None and not stat.S_ISREG(before):
        with open_output(target, "w", str(path)) as file:
            yield file
        return
    aside = target.with_name(f".{target.name[:_LONGEST]}.{secrets.token_hex(4)}.part")
    try:
        with open_output(aside, "x", str(path), _opener(before)) as file:
            yield file
        with clear_errors(str(path)):
            aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def _mode(target: Path) -> int | None:
    """Return type and permissions of the existing file, None if there is none."""
    try:
        return target.stat().st_mode
    except FileNotFoundError:
        return None


def _opener(before: int | None) -> Opener:
    """Return an opener for a file with at most the permissions `before`, None for the default ones."""

    def create(name: str, flags: int) -> int:
        descriptor = os.open(name, flags, 0o666 if before is None else 0o600)
        if before is not None:
            os.fchmod(descriptor, stat.S_IMODE(before))
        return descriptor

    return create


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Collection[str] = ()) -> None:
    """Print a table. columns: headers; rows: cells; right: columns that are aligned to the right.

    On a terminal, long cells are folded at its width; elsewhere each row is one line.
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
    # click flushes, so a closed pipe raises here; rich has already applied colours.
    say("\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n"), color=True)
