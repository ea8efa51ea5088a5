"""`adapters eval`: how good an adapter is on labelled data."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.format.manifest import Manifest
from onetrunk.cli.backbones import needed_backbone
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.number_format import counted, figure, figures_of
from onetrunk.cli.options import running_options
from onetrunk.cli.output import emit_json, json_option, printable, say, table, whole_file
from onetrunk.cli.progress import counting
from onetrunk.cli.quiet import load_backbone
from onetrunk.cli.sharing import located
from onetrunk.cli.train_report import notes_lines
from onetrunk.core.errors import UsageError

if TYPE_CHECKING:
    from onetrunk.core.data.dataset import Dataset
    from onetrunk.core.plugin_system.host import PluginHost
    from onetrunk.core.tasks import JSONObject

_ROWS_SHOWN = 30
"""Longest table of a report that is shown whole; of a longer one the rows that are worst."""


@click.command("eval")
@click.argument("ref")
@click.option("--data", metavar="F", required=True, help="Labelled data: a file, a folder, or - for stdin.")
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="F.json", help="Write every figure to this file."
)
@running_options
@json_option
@click.pass_context
def command(
    context: click.Context, /, ref: str, data: str, report: Path | None, as_json: bool, **running: Any
) -> None:
    """Measure the adapter REF on labelled data.

    Of a folder the test file is taken, else the dev file. The report has what the table shows, and what is too
    large for it, such as the confusion matrix.

    \b
    Example:
      adapters eval ner --data test.conll
      adapters eval intent@prod --data test.jsonl --report report.json --json
    """
    from onetrunk.core.data.dataset import check_targets, load_dataset

    host = plugin_host(context)
    stored = located(lambda: host, ref, running["backbone"])
    manifest = read_manifest(stored.path)
    spec = host.task(manifest.task)
    dataset = load_dataset(spec, _file_of(data))
    check_targets(spec, dataset, manifest.labels)  # before a backbone is loaded
    for line in notes_lines(spec, dataset):
        click.echo(line, err=True)
    about = {"adapter": stored.ref, "rows": len(dataset.examples), "sha256": dataset.sha256}
    with nullcontext() if report is None else whole_file(report) as file:  # not after all the work
        metrics = _measure(host, stored.ref, manifest, dataset, **running)
        if file is not None:
            file.write(json.dumps({**about, "metrics": metrics}, ensure_ascii=False, indent=2) + "\n")
    if as_json:
        emit_json({**about, "metrics": figures_of(metrics)})
    else:
        _print(f"{stored.ref} on {dataset.source}, {counted(len(dataset.examples), 'row')}", metrics)


def _file_of(data: str) -> str | Path:
    """Return the file to read; of a folder the one that `find_evaluation` takes, and say so."""
    from onetrunk.core.data.dataset import find_evaluation

    if not data:
        raise UsageError("the name of a file is empty; give one after --data")
    if data == "-" or not os.path.isdir(data):  # unlike Path.is_dir it leaves faults to the reading
        return data
    file = find_evaluation(data)
    click.echo(printable(f"{data} is a folder: measured is {file}"), err=True)
    return file


def _measure(
    host: PluginHost,
    ref: str,
    manifest: Manifest,
    dataset: Dataset,
    *,
    backbone: str | None,
    device: str,
    precision: str,
    batch_tokens: int | None,
) -> JSONObject:
    from onetrunk.core.inference.logits import BATCH_TOKENS
    from onetrunk.core.inference.predictor import OneTrunk

    name, revision = needed_backbone({ref: manifest}, backbone)
    trunk = OneTrunk(load_backbone(name, revision, device=device, dtype=precision), host=host)
    trunk.load(ref)
    with counting(len(dataset.examples)) as advance:
        return trunk.evaluate(ref, dataset, batch_tokens=batch_tokens or BATCH_TOKENS, advance=advance)


def _print(title: str, metrics: Mapping[str, Any]) -> None:
    say(printable(title))
    table(("metric", "value"), ((name, figure(value)) for name, value in _flat(metrics)), right=["value"])
    for name, rows in metrics.items():
        if isinstance(rows, Mapping) and rows and all(isinstance(row, Mapping) for row in rows.values()):
            print_rows(name.removeprefix("per_"), rows)


def _flat(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float | int | None]]:
    """Yield the figures, and those that stand one level below, as `token accuracy`."""
    yield from figures_of(metrics).items()
    for name, table_of in metrics.items():
        if isinstance(table_of, Mapping):
            yield from ((f"{name} {key}", value) for key, value in figures_of(table_of).items())


def print_rows(name: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the figures of each type or label; of very many those with the lowest f1, the worst first."""
    shown = list(rows.items())
    if len(shown) > _ROWS_SHOWN:
        shown = sorted(shown, key=lambda row: _f1(row[1]))[:_ROWS_SHOWN]
    say()
    columns = list(dict.fromkeys(key for _, row in shown for key in figures_of(row)))
    table(
        (name, *columns), ([key, *(figure(row.get(c)) for c in columns)] for key, row in shown), right=columns
    )
    if len(shown) < len(rows):
        say(f"{len(shown)} of {len(rows)}, those with the lowest f1; --report writes all")


def _f1(row: Mapping[str, Any]) -> float:
    """Return the f1 of a row; one that has none, of a label that is nowhere in the data, comes last."""
    value = row.get("f1")
    return inf if value is None else float(value)
