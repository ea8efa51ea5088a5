"""`adapters eval`: evaluate an adapter on labelled data."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.cli.backbones import backbone_for
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.number_format import counted, format_metric, scalar_metrics
from onetrunk.cli.options import running_options
from onetrunk.cli.output import emit_json, json_option, note, print_label_tables, print_notes, say, table
from onetrunk.cli.progress import counting
from onetrunk.cli.reading_options import reading_options
from onetrunk.cli.sharing import resolve_version
from onetrunk.cli.streams import whole_file
from onetrunk.cli.threads import use_threads
from onetrunk.core.errors import UsageError

if TYPE_CHECKING:
    from onetrunk.core.data.notes import Note

_PAIRS_SHOWN = 10


@click.command("eval")
@click.argument("ref")
@click.option("--data", metavar="F", required=True, help="Labelled data: a file, a folder, or - for stdin.")
@click.option("--report", type=click.Path(path_type=Path), metavar="F", help="JSON file for all metrics.")
@running_options
@reading_options()
@json_option
@click.pass_context
def command(
    context: click.Context, /, ref: str, data: str, report: Path | None, as_json: bool, **running: Any
) -> None:
    """Evaluate the adapter REF on labelled data.

    If the data is a folder, its test file is used; if it has none, its dev file. The report has all metrics,
    including those that are too large for the table, such as the confusion matrix. Rows with a label that the
    adapter lacks count as missed; with --strict they are an error.

    \b
    Example:
      adapters eval ner --data test.conll
      adapters eval intent@prod --data test.jsonl --report report.json --json
    """
    from onetrunk.core.data.checks import check_evaluation
    from onetrunk.core.data.dataset import load_dataset
    from onetrunk.core.data.notes import refuse_doubtful

    host = plugin_host(context)
    stored = resolve_version(host, ref, running["backbone"])
    manifest = read_manifest(stored.path)
    spec = host.task(manifest.task)
    reading = running.pop("reading")
    dataset = load_dataset(spec, _file_of(data), reading)
    notes = check_evaluation(spec, dataset, manifest)  # before the backbone is loaded, which takes longer
    if reading.strict:
        refuse_doubtful(notes)
    print_notes(notes)
    about = {"adapter": stored.ref, "rows": len(dataset.examples), "sha256": dataset.sha256}
    # The report is opened before the evaluation, so that a file that cannot be written fails early.
    with nullcontext() if report is None else whole_file(report) as file:
        needed = {stored.ref: manifest}
        backbone = backbone_for(needed, running["backbone"], running["device"], running["precision"])
        print_notes(busy := use_threads(running["threads"], backbone))
        from onetrunk.core.inference.logits import BATCH_TOKENS
        from onetrunk.core.inference.predictor import OneTrunk

        trunk, tokens = OneTrunk(backbone, host=host), running["batch_tokens"] or BATCH_TOKENS
        trunk.load(stored.ref)
        with counting(len(dataset.examples)) as advance:
            found: list[Note] = []
            metrics = trunk.evaluate(stored.ref, dataset, batch_tokens=tokens, advance=advance, notes=found)
        print_notes(found)
        if file is not None:
            file.write(json.dumps({**about, "metrics": metrics}, ensure_ascii=False, indent=2) + "\n")
    if as_json:
        shown = [each.to_json() for each in (*notes, *busy, *found)]
        emit_json({**about, "metrics": scalar_metrics(metrics), "notes": shown})
    else:
        _print(f"{stored.ref} on {dataset.source}, {counted(len(dataset.examples), 'row')}", metrics)


def _file_of(data: str) -> str | Path:
    """Return the file to evaluate on. For a folder, select one of its files and print it."""
    from onetrunk.core.data.splits import find_evaluation

    if not data:
        raise UsageError("--data has an empty file name; give the name of a file")
    # Path.is_dir can raise; os.path.isdir returns False, and reading the file gives a better message.
    if data == "-" or not os.path.isdir(data):
        return data
    file = find_evaluation(data)
    note(f"{data} is a folder; evaluating on {file}")
    return file


def _print(title: str, metrics: Mapping[str, Any]) -> None:
    say(title)
    table(("metric", "value"), _flat(metrics), right=["value"])
    print_label_tables(metrics, "--report writes all")
    if isinstance(table_of := metrics.get("confusion"), Mapping) and (pairs := most_confused(table_of)):
        say()
        table(("label", "predicted as", "rows"), pairs, right=["rows"])


def _flat(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names and values of the metrics, then those of groups of metrics as `group metric`."""
    groups = {f"{name} ": group for name, group in metrics.items() if isinstance(group, Mapping)}
    for prefix, group in {"": metrics, **groups}.items():
        yield from ((prefix + name, format_metric(value)) for name, value in scalar_metrics(group).items())


def most_confused(confusion: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """Return the most frequent wrong predictions: (label, predicted label, rows). confusion: in either form."""
    labels, rows = confusion.get("labels", []), confusion.get("rows", [])
    pairs = [tuple(pair) for pair in confusion.get("pairs", [])]
    pairs += [
        (right, guess, count)
        for right, row in zip(labels, rows, strict=True)
        for guess, count in zip(labels, row, strict=True)
        if count and right != guess
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:_PAIRS_SHOWN]
