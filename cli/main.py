"""The command `adapters`: its subcommands, and its handling of errors, signals and a closed pipe."""

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

from onetrunk.cli.lazy import LazyGroup
from onetrunk.cli.output import printable, safe_traceback
from onetrunk.cli.streams import guard_standard_streams, settle_stdout, stdout_is_closed
from onetrunk.core.errors import DataError, OneTrunkError

_INTERRUPTED, _PIPE_CLOSED, _TERMINATED = 130, 141, 143
"""Exit codes as shells report them: 128 + SIGINT, SIGPIPE, SIGTERM."""
_LONGEST_CELL = 2**31 - 1
"""Largest number of characters of a CSV cell that every platform accepts. The default of `csv` is 131,072."""


COMMANDS = MappingProxyType(
    {
        "quickstart": "Train three adapters on sample data and predict with them.",
        "check": "Check data without training on it.",
        "train": "Train an adapter on your data and store it.",
        "eval": "Evaluate an adapter on labelled data.",
        "predict": "Predict texts with one or several adapters at once.",
        "serve": "Serve adapters of many tasks over HTTP.",
        "list": "List the adapters in the store.",
        "show": "Show the details of an adapter.",
        "promote": "Make a version the current one: what its name alone means.",
        "alias": "Point an alias such as prod at a version.",
        "push": "Publish an adapter to the Hub or a shared folder.",
        "pull": "Pull an adapter from the Hub or a shared folder into the store.",
        "search": "Find adapters on the Hub.",
        "outdated": "List pulled adapters with newer remote commits.",
        "update": "Pull the newer commits of pulled adapters.",
        "export": "Export an adapter to PEFT, transformers or ONNX, and verify it.",
        "remove": "Remove versions from the store.",
        "plugins": "List the plugins, their tasks and hooks, and errors in them.",
    }
)
"""The built-in commands and their summaries."""
GROUPS = MappingProxyType(
    {
        "Train": ("quickstart", "check", "train", "eval"),
        "Use": ("predict", "export"),
        "Share": ("push", "pull", "search", "outdated", "update"),
        "Serve": ("serve",),
        "Manage": ("list", "show", "alias", "promote", "remove", "plugins"),
    }
)
"""The sections of `--help`, with the commands in their order."""


class _Terminated(KeyboardInterrupt):
    """Raised on SIGTERM, so that the same cleanup runs as after Ctrl-C."""


class _Group(LazyGroup):
    """Prints expected errors on stderr without a traceback, and exits without a message when stdout is closed."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _reporting_errors():  # --help and --version print before there is a context
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> None:
        try:
            with nullcontext() if ctx.params["traceback"] else _reporting_errors():
                super().invoke(ctx)
                sys.stdout.flush()  # a closed pipe raises here, inside the try block
        except BrokenPipeError as error:
            if stdout_is_closed():
                ctx.exit(_PIPE_CLOSED)
            # The closed pipe is not stdout. click would still exit without a message for a BrokenPipeError.
            raise RuntimeError("the other end of a pipe or connection was closed") from error


@contextmanager
def _reporting_errors() -> Iterator[None]:
    """Print an expected error that the block raises, and exit with code 1."""
    try:
        yield
    except OneTrunkError as error:
        settle_stdout()
        lines = error.lines if isinstance(error, DataError) else (str(error),)
        click.echo("error: " + "\n  ".join(map(printable, lines)), err=True)
        raise click.exceptions.Exit(1) from error


@click.group(
    cls=_Group, summaries=COMMANDS, groups=GROUPS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="onetrunk", prog_name="adapters")
@click.option(
    "--traceback",
    is_flag=True,
    envvar="ONETRUNK_TRACEBACK",
    help="Print the traceback of every error, also of expected ones.",
)
def cli(traceback: bool) -> None:  # _Group reads it from the context
    """Train, store and run adapters: many text tasks on one frozen BERT."""


def run(args: Sequence[str] | None = None) -> int:
    """Run one command line (by default that of the process) and return its exit code.

    0: success. 1: expected error. 2: wrong usage. 130: Ctrl-C. 141: the reader of stdout closed the pipe.
    143: SIGTERM. Unexpected errors are raised.
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
    """Run the command line of this process and exit. This is the entry point of the console script."""
    csv.field_size_limit(_LONGEST_CELL)
    # Must be set before torch is imported. By default, OpenMP threads spin for a long time while they wait for each
    # other: if another process uses one of the cores, training on two threads runs at a fifth of its speed. Without
    # spinning, training loses a quarter of its speed on idle cores. A short spin avoids both (docs/performance.md).
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    guard_standard_streams()
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # the parent process may have set it to be ignored
        signal.signal(signal.SIGTERM, _terminate)
    try:
        code = run()
    except Exception as error:  # with --traceback also an expected one
        click.echo(safe_traceback(error), err=True)
        code = 1
    sys.exit(code)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """Raise _Terminated. Ignore a second SIGTERM, which `timeout` sends, so that the cleanup can finish."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Terminated


def _show(error: click.ClickException) -> None:
    """Print a usage error. Its text can quote the command line, so terminal escape sequences are made visible."""
    text = io.StringIO()
    error.show(text)
    click.echo(printable(text.getvalue(), keep="\n\t"), nl=False, err=True)


def _aborted(abort: click.Abort) -> int:
    """Return the exit code after a signal, or after a prompt that was answered with no."""
    cause = abort.__cause__
    if isinstance(cause, EOFError):  # click turns every EOFError into Abort; this one is a bug
        raise cause
    word, code = "aborted", 1
    if isinstance(cause, _Terminated):
        word, code = "terminated", _TERMINATED
    elif isinstance(cause, KeyboardInterrupt):
        word, code = "interrupted", _INTERRUPTED
    click.echo(word, err=True)
    return code


if __name__ == "__main__":
    main()
