"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

import click

from onetrunk.cli.number_format import duration, format_metric
from onetrunk.cli.output import printable
from onetrunk.core.tasks.hookspecs import EpochEvent, StepEvent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_PATIENCE = 1.0  # seconds before a bar appears
_MEMORY = 0.95  # decay of the moving averages per step


class TrainingProgress:
    """Progress of training runs: a bar with epoch, tokens/s, loss and remaining time, and a line per epoch.

    runs: the metric to show, by adapter name. A context manager; it removes the bars at its end.
    """

    def __init__(self, runs: Mapping[str, str]) -> None:
        self._runs = runs
        self._console = _terminal()
        self._bar = None if self._console is None else _training_bar(self._console)
        self._paces = {name: _Pace() for name in runs}

    def __enter__(self) -> TrainingProgress:
        if self._bar is not None:
            self._bar.start()
            self._tasks = {
                name: self._bar.add_task(self._titled(name, "preparing"), total=None, state="")
                for name in self._runs
            }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, event: StepEvent) -> None:
        """Show an optimiser step."""
        pace = self._paces[event.name]
        pace.step(event.tokens, event.loss)
        if self._bar is not None:
            self._bar.update(
                self._tasks[event.name],
                completed=event.step,
                total=event.steps,
                description=self._titled(event.name, f"epoch {event.epoch}/{event.epochs}"),
                state=str(pace),
            )

    def epoch(self, event: EpochEvent) -> None:
        """Print the line of an epoch. Its evaluation does not count as training time."""
        self._paces[event.name].pause()
        primary = self._runs[event.name]
        value = format_metric(event.metrics.get(primary))
        self.say(
            event.name,
            f"epoch {event.epoch:>{len(str(event.epochs))}}/{event.epochs}  loss {event.loss:.4f}  "
            f"dev {primary} {value}  {duration(event.seconds)}{'  best so far' if event.best else ''}",
        )

    def say(self, name: str, text: str) -> None:
        """Print a line about the run `name`, above the bars."""
        line = self._titled(name, text)
        if self._bar is None:
            click.echo(printable(line), err=True)
        else:
            from rich.text import Text

            self._bar.console.print(Text(printable(line)))

    def _titled(self, name: str, text: str) -> str:
        return text if len(self._runs) == 1 else f"{name}: {text}"


class _Pace:
    """Moving averages of the loss and of tokens per second, without pauses between steps."""

    def __init__(self) -> None:
        self._tokens = self._seconds = self._losses = self._weight = 0.0
        self._since: float | None = None

    def step(self, tokens: int, loss: float) -> None:
        now = time.monotonic()
        if self._since is not None:  # the first step has no start time
            self._tokens = _MEMORY * self._tokens + tokens
            self._seconds = _MEMORY * self._seconds + now - self._since
        self._losses, self._weight = _MEMORY * self._losses + loss, _MEMORY * self._weight + 1
        self._since = now

    def pause(self) -> None:
        self._since = time.monotonic()

    def __str__(self) -> str:
        speed = f"{self._tokens / self._seconds:,.0f} tokens/s  " if self._seconds else ""
        return f"{speed}loss {self._losses / self._weight:.4f}"


@contextmanager
def counting(total: int | None, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of further texts that are done; a bar appears after a second.

    total: number of texts, None if unknown. shown: False hides the bar, if results go to the same terminal.
    """
    console = _terminal() if shown else None
    if console is None:
        yield lambda _texts: None
        return
    bar = _counting_bar(console)
    task = bar.add_task("texts", total=total)
    late = threading.Timer(_PATIENCE, bar.start)
    late.start()
    try:
        yield lambda texts: bar.advance(task, texts)
    finally:
        late.cancel()
        late.join()  # so that the bar cannot start after it was stopped
        bar.stop()


def _terminal() -> Console | None:
    """Return stderr as a console, None if it is not a terminal that can show a bar."""
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_terminal and not console.is_dumb_terminal else None


def _training_bar(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[state]}"),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _counting_bar(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
