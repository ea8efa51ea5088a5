"""What adapting the last k layers alone costs in accuracy and gains in speed.

    python -m benchmarks.last_layers --data ../shared/data --output benchmarks/results/last_layers.json

Each training is the `adapters train` command with `--layers last-K` and otherwise the defaults; the speed of the
same k, one adapter and five adapters a text, is in `benchmarks/serve.py`'s fan-out. A run is recorded as soon as it
ends, so that a second call goes on where the first one stopped.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from benchmarks.accuracy import BENCHMARKS, Benchmark, Run, command, execute, machine
from benchmarks.report import markdown

COUNTS = (1, 2, 3, 6)
SETS = ("clinc150", "wnut17")


def key_of(own: Benchmark, count: int) -> str:
    """Return the name of a run, the same in every call."""
    return f"{own.name} last-{count}"


def table(runs: Mapping[str, Mapping[str, Any]], sets: tuple[Benchmark, ...]) -> str:
    """Return the results as a Markdown table, a row for each number of layers."""
    rows = []
    for count in COUNTS:
        found = [runs.get(key_of(own, count)) for own in sets]
        cells = []
        for own, run in zip(sets, found, strict=True):
            if run is None:
                cells += ["–", "–", "–"]
                continue
            score, share = 100 * run["metrics"][own.metric], 100 * run["share"]
            cells += [f"{score:.1f}", f"{share:.1f} %", f"{run['seconds'] / 60:.1f} min"]
        rows.append([str(count), *cells])
    head = [f"{own.name} {what}" for own in sets for what in (own.metric, "trained", "wall time")]
    return markdown(["last k layers", *head], rows)


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="JSON file.")
@click.option("--sets", default=",".join(SETS), show_default=True)
@click.option("--conditions", default="", help="What else the machine does, to be recorded with each run.")
def main(data: Path, output: Path, sets: str, conditions: str) -> None:
    """Train on the last 1, 2, 3 and 6 layers, and report test results."""
    chosen = tuple(own for own in BENCHMARKS if own.name in sets.split(","))
    runs = json.loads(output.read_text(encoding="utf-8"))["runs"] if output.exists() else {}
    output.parent.mkdir(parents=True, exist_ok=True)
    for own, count in ((own, count) for count in COUNTS for own in chosen):
        if (key := key_of(own, count)) in runs:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            line = command(Run(own, "lora", None), data, Path(scratch), ("--layers", f"last-{count}"))
            click.echo(f"— {key}: adapters {' '.join(line)}", err=True)
            result = execute(line, Path(scratch) / "home")
        date = datetime.now(UTC).isoformat(timespec="seconds")
        runs[key] = {**result, "date": date, "machine": machine(), "conditions": conditions}
        output.write_text(json.dumps({"runs": runs}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    click.echo(table(runs, chosen))


if __name__ == "__main__":
    main()
