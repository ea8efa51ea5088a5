"""The command `adapters`: the table of its commands, and what becomes of errors, signals and a closed pipe."""

from __future__ import annotations

import csv
import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import FrameType, MappingProxyType
from typing import Any

import click

from onetrunk.cli.lazy import LazyCommand, LazyGroup
from onetrunk.cli.output import printable
from onetrunk.cli.streams import guard_standard_streams, settle_stdout, stdout_is_closed
from onetrunk.core.errors import DataError, OneTrunkError

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_PIPE_CLOSED = 141  # 128 + SIGPIPE
_TERMINATED = 143  # 128 + SIGTERM
_LONGEST_CELL = 2**31 - 1
"""Characters of a cell of CSV, as many as every platform allows; the csv module itself allows 131,072."""


def _at(name: str, summary: str) -> LazyCommand:
    return LazyCommand(f"onetrunk.cli.commands.{name}", "command", summary)


COMMANDS = MappingProxyType(
    {
        "quickstart": _at("quickstart", "Train three adapters on samples and try them, offline."),
        "train": _at("train", "Train an adapter on your data and keep it in the store."),
        "eval": _at("eval", "Measure an adapter on labelled data."),
        "predict": _at("predict", "Predict texts with one or several adapters at once."),
        "serve": _at("serve", "Serve adapters over HTTP, many tasks at once."),
        "list": _at("list", "List the adapters in the store."),
        "show": _at("show", "Show all that is known of an adapter."),
        "alias": _at("alias", "Give a version a name of its own, such as prod."),
        "push": _at("push", "Publish an adapter to the Hub or a shared folder."),
        "pull": _at("pull", "Pull an adapter from the Hub or a shared folder into the store."),
        "search": _at("search", "Find adapters on the Hub."),
        "outdated": _at("outdated", "List pulled adapters that are newer where they came from."),
        "update": _at("update", "Pull what is outdated."),
        "export": _at("export", "Export an adapter for PEFT, transformers or ONNX, checked."),
        "remove": _at("remove", "Remove a version, or all versions of an adapter."),
        "plugins": _at("plugins", "List the plugins with their tasks, hooks and faults."),
    }
)
"""The built-in commands by name, in the order of the help."""


class _Terminated(KeyboardInterrupt):
    """SIGTERM: whatever ends or cleans up at Ctrl-C does so here."""


class _Frame(LazyGroup):
    """Turns an expected failure of a command into a line a fault on stderr, a closed stdout into silence."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with _failing_in_a_line():  # --help and --version print before there is a context
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> None:
        try:
            with nullcontext() if ctx.params["traceback"] else _failing_in_a_line():
                super().invoke(ctx)
                sys.stdout.flush()  # here a closed pipe can still be told apart
        except BrokenPipeError as error:
            if stdout_is_closed():
                ctx.exit(_PIPE_CLOSED)
            # Under its own name click would take it for stdout's and end in silence.
            raise RuntimeError("the other end of a pipe or connection was closed") from error


@contextmanager
def _failing_in_a_line() -> Iterator[None]:
    """Print an expected failure of the block, and end the command line with exit code 1."""
    try:
        yield
    except OneTrunkError as error:
        settle_stdout()
        lines = error.lines if isinstance(error, DataError) else (str(error),)
        click.echo("error: " + "\n  ".join(map(printable, lines)), err=True)
        raise click.exceptions.Exit(1) from error


@click.group(cls=_Frame, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="onetrunk", prog_name="adapters")
@click.option(
    "--traceback", is_flag=True, envvar="ONETRUNK_TRACEBACK", help="Show where an expected error arose, too."
)
def cli(traceback: bool) -> None:  # read from the context by _Frame
    """Train, keep and use adapters: many text tasks on one frozen BERT."""


def run(args: Sequence[str] | None = None) -> int:
    """Run one command line (by default that of the process) and return its exit code.

    0 done; 1 an expected failure; 2 wrong usage; 130 Ctrl-C; 141 the reader of stdout went away; 143
    SIGTERM. Errors that nobody expected are raised.
    """
    try:
        code: int | None = cli.main(args, prog_name="adapters", standalone_mode=False)
    except click.ClickException as error:
        _show(error)
        return error.exit_code
    except click.Abort as abort:
        return _aborted(abort)
    return code or 0


def main() -> None:
    """Run the command line of this process and exit; the entry point of the console script."""
    csv.field_size_limit(_LONGEST_CELL)
    # Before torch is loaded. By default its threads wait for each other by spinning, for long: where anything else
    # wants one of the cores, training with two threads then ran at a fifth of this speed. Not to spin at all costs
    # a quarter of it on idle cores. A short spin is as fast there, and bounds what a busy core can lose: see
    # docs/performance.md.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    guard_standard_streams()
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # who started us may have had it ignored
        signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run())


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """End as at Ctrl-C. `timeout`, for one, sends the signal twice; the second must not stop the cleaning up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Terminated


def _show(error: click.ClickException) -> None:
    """Print a usage error; it may quote what the user typed, escape sequences and all."""
    text = io.StringIO()
    error.show(text)
    click.echo(printable(text.getvalue(), keep="\n\t"), nl=False, err=True)


def _aborted(abort: click.Abort) -> int:
    """Return the exit code for a signal, or for a prompt that was answered with no."""
    cause = abort.__cause__
    if isinstance(cause, EOFError):  # click takes any for the end of a prompt; here it is a bug's
        raise cause
    word, code = "aborted", 1
    if isinstance(cause, KeyboardInterrupt):
        word, code = (
            ("terminated", _TERMINATED) if isinstance(cause, _Terminated) else ("interrupted", _INTERRUPTED)
        )
    click.echo(word, err=True)
    return code


if __name__ == "__main__":
    main()
