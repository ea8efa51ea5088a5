"""`adapters eval`: evaluate an adapter on labelled data."""

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
from onetrunk.cli.backbones import choose_backbone
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.number_format import counted, format_metric, scalar_metrics
from onetrunk.cli.options import running_options
from onetrunk.cli.output import emit_json, json_option, print_notes, printable, say, table, whole_file
from onetrunk.cli.progress import counting
from onetrunk.cli.quiet import load_backbone
from onetrunk.cli.reading_options import reading_options
from onetrunk.cli.sharing import resolve_version
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.errors import UsageError

if TYPE_CHECKING:
    from onetrunk.core.data.dataset import Dataset
    from onetrunk.core.plugin_system.host import PluginHost
    from onetrunk.core.tasks import JSONObject

_ROWS_SHOWN = 30
"""Maximum number of rows shown per table; a longer table is cut to the rows with the lowest f1."""


@click.command("eval")
@click.argument("ref")
@click.option("--data", metavar="F", required=True, help="Labelled data: a file, a folder, or - for stdin.")
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="F.json", help="Write all metrics to this JSON file."
)
@running_options
@reading_options()
@json_option
@click.pass_context
def command(
    context: click.Context,
    /,
    ref: str,
    data: str,
    report: Path | None,
    reading: ReadOptions,
    as_json: bool,
    **running: Any,
) -> None:
    """Evaluate the adapter REF on labelled data.

    If the data are a folder, its test file is used, else its dev file. The report has all metrics, including those
    that are too large for the table, such as the confusion matrix.

    \b
    Example:
      adapters eval ner --data test.conll
      adapters eval intent@prod --data test.jsonl --report report.json --json
    """
    from onetrunk.core.data.dataset import check_targets, load_dataset

    host = plugin_host(context)
    stored = resolve_version(lambda: host, ref, running["backbone"])
    manifest = read_manifest(stored.path)
    spec = host.task(manifest.task)
    dataset = load_dataset(spec, _file_of(data), reading)
    check_targets(spec, dataset, manifest.labels)  # before the backbone is loaded, which takes longer
    print_notes(dataset.notes)
    about = {"adapter": stored.ref, "rows": len(dataset.examples), "sha256": dataset.sha256}
    with (
        nullcontext() if report is None else whole_file(report) as file
    ):  # opened first: a file that cannot be written fails early
        metrics = _evaluate(host, stored.ref, manifest, dataset, running)
        if file is not None:
            file.write(json.dumps({**about, "metrics": metrics}, ensure_ascii=False, indent=2) + "\n")
    if as_json:
        notes = [note.to_json() for note in dataset.notes]
        emit_json({**about, "metrics": scalar_metrics(metrics), "notes": notes})
    else:
        _print(f"{stored.ref} on {dataset.source}, {counted(len(dataset.examples), 'row')}", metrics)


def _file_of(data: str) -> str | Path:
    """Return the file to read; for a folder, the file that `find_evaluation` selects, which is printed."""
    from onetrunk.core.data.split_files import find_evaluation

    if not data:
        raise UsageError("--data has an empty file name; give the name of a file")
    if data == "-" or not os.path.isdir(
        data
    ):  # unlike Path.is_dir, it returns False on errors; reading then reports them
        return data
    file = find_evaluation(data)
    click.echo(printable(f"{data} is a folder; evaluating on {file}"), err=True)
    return file


def _evaluate(
    host: PluginHost, ref: str, manifest: Manifest, dataset: Dataset, running: Mapping[str, Any]
) -> JSONObject:
    """Return the metrics of `ref` on `dataset`. running: values of `running_options`."""
    from onetrunk.core.inference.logits import BATCH_TOKENS
    from onetrunk.core.inference.predictor import OneTrunk

    name, revision = choose_backbone({ref: manifest}, running["backbone"])
    backbone = load_backbone(name, revision, device=running["device"], dtype=running["precision"])
    trunk = OneTrunk(backbone, host=host)
    trunk.load(ref)
    with counting(len(dataset.examples)) as advance:
        tokens = running["batch_tokens"] or BATCH_TOKENS
        return trunk.evaluate(ref, dataset, batch_tokens=tokens, advance=advance)


def _print(title: str, metrics: Mapping[str, Any]) -> None:
    say(printable(title))
    table(
        ("metric", "value"), ((name, format_metric(value)) for name, value in _flat(metrics)), right=["value"]
    )
    for name, rows in metrics.items():
        if isinstance(rows, Mapping) and rows and all(isinstance(row, Mapping) for row in rows.values()):
            print_rows(name.removeprefix("per_"), rows)


def _flat(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float | int | None]]:
    """Yield the metrics, and those one level deeper as `group metric`."""
    yield from scalar_metrics(metrics).items()
    for name, table_of in metrics.items():
        if isinstance(table_of, Mapping):
            yield from ((f"{name} {key}", value) for key, value in scalar_metrics(table_of).items())


def print_rows(name: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the metrics of each type or label; if there are many, those with the lowest f1 first."""
    shown = list(rows.items())
    if len(shown) > _ROWS_SHOWN:
        shown = sorted(shown, key=lambda row: _f1(row[1]))[:_ROWS_SHOWN]
    say()
    columns = list(dict.fromkeys(key for _, row in shown for key in scalar_metrics(row)))
    table(
        (name, *columns),
        ([key, *(format_metric(row.get(c)) for c in columns)] for key, row in shown),
        right=columns,
    )
    if len(shown) < len(rows):
        say(f"{len(shown)} of {len(rows)} rows shown (lowest f1 first); --report writes all")


def _f1(row: Mapping[str, Any]) -> float:
    """Return the f1 of a row; infinity if it has none, so that labels that do not occur come last."""
    value = row.get("f1")
    return inf if value is None else float(value)
