"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from onetrunk.cli.number_format import duration, format_metric
from onetrunk.cli.output import note, printable
from onetrunk.core.tasks.hookspecs import EpochEvent, StepEvent

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

    from onetrunk.core.data.notes import Note

_DELAY = 1.0
"""Seconds until the bar of `counting` appears."""
_PERIOD = 10.0
"""Seconds between two lines of `counting` where there is no terminal."""
_DECAY = 0.95
"""Factor by which each step reduces the weight of earlier steps in the moving averages."""


class TrainingProgress:
    """Progress of training runs: bars with epoch, tokens/s, loss and remaining time, and a line per epoch.

    runs: the name of the metric to show, by adapter name. As a context manager, it removes the bars at the end.
    """

    def __init__(self, runs: Mapping[str, str]) -> None:
        from rich.progress import BarColumn, TaskProgressColumn, TimeRemainingColumn

        self._runs = runs
        name, state = "{task.description}", "{task.fields[state]}"
        self._bar = _bar(name, BarColumn(), TaskProgressColumn(), state, "ETA", TimeRemainingColumn())
        self._paces = {name: _Pace() for name in runs}

    def __enter__(self) -> TrainingProgress:
        self._tasks = {
            name: self._bar.add_task(self._titled(name, "preparing"), total=None, state="")
            for name in self._runs
        }
        self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if not self._bar.disable:
            self._bar.stop()

    def step(self, event: StepEvent) -> None:
        """Show an optimiser step."""
        pace = self._paces[event.name]
        pace.step(event.tokens, event.loss)
        self._bar.update(
            self._tasks[event.name],
            completed=event.step,
            total=event.steps,
            description=self._titled(event.name, f"epoch {event.epoch}/{event.epochs}"),
            state=str(pace),
        )

    def epoch(self, event: EpochEvent) -> None:
        """Print the line of an epoch, which has just been evaluated."""
        self._paces[event.name].pause()
        primary = self._runs[event.name]
        value = format_metric(event.metrics.get(primary))
        dev_loss = "" if event.dev_loss is None else f", loss {event.dev_loss:.4f}"
        self.say(
            event.name,
            f"epoch {event.epoch:>{len(str(event.epochs))}}/{event.epochs}  loss {event.loss:.4f}  "
            f"dev {primary} {value}{dev_loss}  {duration(event.seconds)}{'  best so far' if event.best else ''}",
        )

    def note(self, name: str, note: Note) -> None:
        """Print a note on the run `name`."""
        self.say(name, str(note))

    def say(self, name: str, text: str) -> None:
        """Print a line about the run `name`, above the bars."""
        from rich.text import Text

        self._bar.console.print(Text(printable(self._titled(name, text), keep="\n")), soft_wrap=True)

    def _titled(self, name: str, text: str) -> str:
        return text if len(self._runs) == 1 else f"{name}: {text}"


class _Pace:
    """Moving averages of the loss and of tokens per second. The time of evaluations is not counted."""

    def __init__(self) -> None:
        self._tokens = self._seconds = self._losses = self._weight = 0.0
        self._since: float | None = None

    def step(self, tokens: int, loss: float) -> None:
        now = time.monotonic()
        if self._since is not None:  # the first step has no start time
            self._tokens = _DECAY * self._tokens + tokens
            self._seconds = _DECAY * self._seconds + now - self._since
        self._losses, self._weight = _DECAY * self._losses + loss, _DECAY * self._weight + 1
        self._since = now

    def pause(self) -> None:
        self._since = time.monotonic()

    def __str__(self) -> str:
        speed = f"{self._tokens / self._seconds:,.0f} tokens/s  " if self._seconds else ""
        return f"{speed}loss {self._losses / self._weight:.4f}"


@contextmanager
def counting(
    total: int | None, *, shown: bool = True, period: float = _PERIOD
) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of texts that were processed since its last call.

    On a terminal, a bar appears after a second; elsewhere, a line is printed on stderr in each period.

    total: number of all texts, None if unknown.  shown: whether to show progress.  period: in seconds.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TimeElapsedColumn

    bar = _bar(BarColumn(), MofNCompleteColumn(), "{task.description}", TimeElapsedColumn())
    if not shown:
        yield lambda _texts: None
        return
    if bar.disable:
        yield _Lines(total, period).advance
        return
    task = bar.add_task("texts", total=total)
    late = threading.Timer(_DELAY, bar.start)
    late.start()
    try:
        yield lambda texts: bar.advance(task, texts)
    finally:
        late.cancel()
        late.join()  # so that the bar cannot start after it was stopped
        bar.stop()


class _Lines:
    """Prints a line with the number of texts when a period has passed."""

    def __init__(self, total: int | None, period: float) -> None:
        self._total, self._period = total, period
        self._done = 0
        self._began = self._printed = time.monotonic()

    def advance(self, texts: int) -> None:
        self._done += texts
        now = time.monotonic()
        if now - self._printed < self._period:
            return
        self._printed = now
        done = "1 text" if self._done == 1 else f"{self._done:,} texts"
        if self._total is not None:
            done = f"{self._done:,} of {self._total:,} texts"
        seconds = now - self._began
        note(f"{done}, {duration(seconds)}, {self._done / seconds:,.1f} texts/s")


def _bar(*columns: str | ProgressColumn) -> Progress:
    """Return a bar on stderr. It is disabled if stderr is not a terminal that can show one."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    hidden = not console.is_terminal or console.is_dumb_terminal
    return Progress(*columns, console=console, transient=True, disable=hidden)
