"""Accuracy on public data sets: each run is the `adapters train` command that a user would type.

    python benchmarks/accuracy.py --data ../shared/data --output benchmarks/results/accuracy.json

The data folder has a folder a set (banking77, clinc150, sst2, wnut17, snips) with train/dev/test files. Every run
is recorded as soon as it ends, so a second call goes on where the first one stopped; `--again` starts over.
LoRA runs use the defaults; full fine-tuning, the baseline, runs at three learning rates and is judged by the one
that is best on dev.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

FULL_RATES = (1e-4, 2e-4, 4e-4)
LIBRARIES = ("torch", "transformers", "peft", "tokenizers")


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One data set: its task, the files of each split (several are read as one), the metric, and its bar."""

    name: str
    task: str
    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]
    metric: str
    bar: float
    full: bool


BENCHMARKS = (
    Benchmark("banking77", "intent", ("train.jsonl",), (), ("test.jsonl",), "accuracy", 0.92, full=True),
    Benchmark(
        "clinc150",
        "intent",
        ("train.jsonl",),
        ("dev.jsonl", "oos_dev.jsonl"),
        ("test.jsonl", "oos_test.jsonl"),
        "accuracy",
        0.955,
        full=True,
    ),
    Benchmark(
        "sst2", "sentiment", ("train.jsonl",), ("dev.jsonl",), ("test.jsonl",), "accuracy", 0.87, full=True
    ),
    Benchmark("wnut17", "ner", ("train.conll",), ("dev.conll",), ("test.conll",), "f1", 0.40, full=False),
    Benchmark("snips", "ner", ("train.conll",), ("dev.conll",), ("test.conll",), "f1", 0.94, full=False),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One training: a benchmark and how it is trained."""

    benchmark: Benchmark
    method: str
    lr: float | None

    @property
    def key(self) -> str:
        """A name that is the same in every call."""
        return f"{self.benchmark.name} {self.method}" + (f" {self.lr:g}" if self.lr else "")


def planned(sets: Sequence[str], methods: Sequence[str]) -> Iterator[Run]:
    """Yield the runs, the adapters first."""
    chosen = [benchmark for benchmark in BENCHMARKS if benchmark.name in sets]
    if "lora" in methods:
        yield from (Run(benchmark, "lora", None) for benchmark in chosen)
    if "full" in methods:
        yield from (Run(b, "full", lr) for b in chosen if b.full for lr in FULL_RATES)


def command(run: Run, data: Path, scratch: Path, extra: Sequence[str]) -> list[str]:
    """Return the command line of `run`; files that make one split are joined in `scratch`."""
    own = run.benchmark
    line = ["train", own.task, "--name", f"{own.name}", "--method", run.method, "--json", *extra]
    for split in ("train", "dev", "test"):
        files = [data / own.name / name for name in getattr(own, split)]
        if len(files) > 1:
            whole = scratch / f"{own.name}-{split}{files[0].suffix}"
            whole.write_bytes(b"".join(file.read_bytes() for file in files))
            files = [whole]
        line += [part for file in files for part in (f"--{split}", str(file))]
    return [*line, "--lr", f"{run.lr:g}"] if run.lr else line


def execute(line: Sequence[str], home: Path) -> dict[str, Any]:
    """Run `adapters`, let its progress through, and return the last line of its output."""
    environment = {**os.environ, "ONETRUNK_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    whole = [sys.executable, "-m", "onetrunk.cli.main", *line]
    done = subprocess.run(whole, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def machine() -> dict[str, Any]:
    """Describe what the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if "model name" in line), cpu)
    versions = {name: version(name) for name in LIBRARIES}
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version(), **versions}


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the results as a Markdown table; full fine-tuning by the rate that is best on dev."""
    head = (
        "| data set | task | metric | target | LoRA | full fine-tuning | LoRA − full | trained | wall time |"
    )
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    for own in BENCHMARKS:
        lora = results.get(Run(own, "lora", None).key)
        if lora is None:
            continue
        score = 100 * lora["metrics"][own.metric]
        full = [results[key] for lr in FULL_RATES if (key := Run(own, "full", lr).key) in results]
        best = max(full, key=lambda r: float(r["dev"][own.metric]), default=None)
        baseline = None if best is None else 100 * best["metrics"][own.metric]
        against = "– | –"
        if best is not None and baseline is not None:
            rate = f"lr {best['lr']:g}, best on dev of {len(full)}"
            against = f"{baseline:.1f} ({rate}) | {score - baseline:+.1f}"
        cells = f"{own.name} | {own.task} | {own.metric} | {100 * own.bar:.1f} | **{score:.1f}** | {against}"
        lines.append(f"| {cells} | {100 * lora['share']:.1f} % | {lora['seconds'] / 60:.1f} min |")
    return "\n".join(lines)


def out_of_scope(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the line on clinc150's calibrated threshold."""
    metrics = results.get("clinc150 lora", {}).get("metrics", {})
    if "oos_recall" not in metrics:
        return ""
    return (
        f"clinc150, threshold calibrated on dev: in-scope accuracy {100 * metrics['in_scope_accuracy']:.1f}, "
        f"oos recall {100 * metrics['oos_recall']:.1f}, oos precision {100 * metrics['oos_precision']:.1f}"
    )


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="JSON file.")
@click.option("--store", type=click.Path(path_type=Path), help="Keep the adapters in this store.")
@click.option("--sets", default=",".join(b.name for b in BENCHMARKS), show_default=True)
@click.option("--methods", default="lora,full", show_default=True)
@click.option("--again", is_flag=True, help="Measure again what the output file has.")
@click.option("--conditions", default="", help="What else the machine does, to be recorded with each run.")
@click.argument("extra", nargs=-1)
def main(
    data: Path,
    output: Path,
    store: Path | None,
    sets: str,
    methods: str,
    again: bool,
    conditions: str,
    extra: tuple[str, ...],
) -> None:
    """Train on each data set and report test results; EXTRA options go to `adapters train`."""
    report = json.loads(output.read_text()) if output.exists() else {"runs": {}}
    output.parent.mkdir(parents=True, exist_ok=True)
    for run in planned(sets.split(","), methods.split(",")):
        if run.key in report["runs"] and not again:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            line = command(run, data, Path(scratch), extra)
            click.echo(f"— {run.key}: adapters {' '.join(line)}", err=True)
            result = execute(line, store or Path(scratch) / "home")
        date = datetime.now(UTC).isoformat(timespec="seconds")
        circumstances = {"date": date, "machine": machine(), "options": list(extra), "conditions": conditions}
        report["runs"][run.key] = {**result, "lr": run.lr, **circumstances}
        output.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    click.echo(table(report["runs"]))
    click.echo(out_of_scope(report["runs"]))


if __name__ == "__main__":
    main()
