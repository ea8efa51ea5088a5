"""`adapters check`: check data without training on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.number_format import counted
from onetrunk.cli.options import backbone_option
from onetrunk.cli.output import emit_json, json_option, note, print_notes, say, table
from onetrunk.cli.progress import counting
from onetrunk.cli.reading_options import reading_options
from onetrunk.core.backbones.repository import OFFLINE_NAME, offline_folder

if TYPE_CHECKING:
    from onetrunk.core.data.data_report import DataReport, Lengths
    from onetrunk.core.data.dataset import Dataset
    from onetrunk.core.inference.token_report import TokenReport
    from onetrunk.core.tasks import TaskSpec

_LABELS_SHOWN = 20
"""Maximum number of labels in the table; of more, the most and the least frequent ones are shown."""


@click.command("check")
@click.argument("file")
@click.option("--task", required=True, metavar="T", help="Task that the data is for; see `adapters plugins`.")
@click.option("--dev", "dev_file", metavar="F", help="Dev data.  [default: a tenth of FILE]")
@click.option("--test", "test_file", metavar="F", help="Test data.")
@backbone_option(f"{OFFLINE_NAME}, if it is installed")
@reading_options()
@json_option
@click.pass_context
def command(
    context: click.Context,
    /,
    file: str,
    task: str,
    dev_file: str | None,
    test_file: str | None,
    **options: Any,
) -> None:
    """Check the training data FILE, a file, a folder or - for stdin, without training on it.

    Prints rows, labels and lengths of texts, and a note on everything that makes a result doubtful: texts with two
    labels, rows of dev in train, labels that look alike, and others (docs/data.md). The exit code is 1 if
    `adapters train` would refuse the data; with --strict also if a note puts the result in doubt.

    \b
    Example:
      adapters check train.jsonl --task intent --dev dev.jsonl
      adapters check data/ --task ner --strict --json
    """
    from onetrunk.core.data.data_report import report_data
    from onetrunk.core.data.notes import Note
    from onetrunk.core.data.splits import Splits

    spec = plugin_host(context).task(task)
    with counting(None) as advance:
        report = report_data(spec, Splits(file, dev_file, test_file), options["reading"], advance)
        tokens = _tokens(spec, report, options["backbone"], advance)
    notes = [*report.notes, *(each for own in tokens.values() for each in own.notes)]
    if report.splits and not tokens:
        missing = f"{OFFLINE_NAME} is not installed; give a backbone with --backbone"
        notes.append(Note("tokens-not-counted", f"tokens are not counted: {missing}"))
    print_notes(notes)
    for error in report.errors:
        note(f"error: {error}")
    if options["as_json"]:
        splits = {name: _record(spec, each, tokens.get(name)) for name, each in report.splits.items()}
        shown = [each.to_json() for each in notes]
        errors = list(report.errors)
        emit_json({"task": task, "splits": splits, "notes": shown, "errors": errors, "ok": not errors})
    else:
        _print(spec, report, tokens)
        say()
        say(f"{_verdict(report)}; {counted(len(notes), 'note')}")
    context.exit(int(bool(report.errors)))


def _tokens(
    spec: TaskSpec, report: DataReport, backbone: str | None, advance: Callable[[int], None]
) -> dict[str, TokenReport]:
    """Return the tokens of each split; {} without a backbone at hand."""
    if not report.splits or (backbone is None and offline_folder() is None):
        return {}
    from onetrunk.core.backbones.backbone import load_text_encoder
    from onetrunk.core.inference.token_report import report_tokens

    encoder = load_text_encoder(backbone or OFFLINE_NAME)
    return {name: report_tokens(encoder, spec, each, advance) for name, each in report.splits.items()}


def _lengths(dataset: Dataset) -> Lengths:
    from onetrunk.core.data.data_report import Lengths

    return Lengths.of([len(example.text) for example in dataset.examples])


def _labels(spec: TaskSpec, dataset: Dataset) -> Counter[str]:
    from onetrunk.core.data.checks import count_labels

    return count_labels(dataset.examples, spec.level)


def _record(spec: TaskSpec, dataset: Dataset, tokens: TokenReport | None) -> dict[str, Any]:
    about = {
        "source": dataset.source,
        "rows": len(dataset.examples),
        "sha256": dataset.sha256,
        "labels": dict(_labels(spec, dataset).most_common()),
        "characters": asdict(_lengths(dataset)),
    }
    if tokens is not None:
        about |= {
            "tokens": asdict(tokens.tokens),
            "windows": tokens.windows,
            "unknown_tokens": tokens.unknown,
        }
    return about


def _print(spec: TaskSpec, report: DataReport, tokens: Mapping[str, TokenReport]) -> None:
    splits = list(report.splits)
    if not splits:
        return
    columns: dict[str, list[str]] = {}
    for name, dataset in report.splits.items():
        for key, value in _cells(dataset, tokens.get(name)):
            columns.setdefault(key, []).append(value)
    table(("data", *splits), ([key, *values] for key, values in columns.items()), right=splits)
    labels = {name: _labels(spec, dataset) for name, dataset in report.splits.items()}
    total: Counter[str] = sum(labels.values(), Counter())
    ranked = [label for label, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))]
    if not ranked:  # a regression
        return
    shown, half = ranked, _LABELS_SHOWN // 2
    if len(ranked) > _LABELS_SHOWN:
        shown = ranked[:half] + ranked[-half:]
    say()
    noun = "label" if spec.level == "text" else "entity type"
    table(
        (noun, *splits), ([label, *(own[label] for own in labels.values())] for label in shown), right=splits
    )
    if len(shown) < len(ranked):
        say(f"{len(shown)} of {len(ranked):,} shown: the most and the least frequent; --json has all")


def _cells(dataset: Dataset, tokens: TokenReport | None) -> Iterator[tuple[str, str]]:
    def shown(lengths: Lengths) -> str:
        return f"{lengths.median:,} / {lengths.p95:,} / {lengths.longest:,}"

    yield "rows", f"{len(dataset.examples):,}"
    yield "characters: median / 95 % / longest", shown(_lengths(dataset))
    if tokens is not None:
        yield "tokens: median / 95 % / longest", shown(tokens.tokens)
        yield "windows of the longest text", str(tokens.windows)
        yield "unknown tokens", f"{tokens.unknown:.2%}"


def _verdict(report: DataReport) -> str:
    if report.errors:
        return f"not fit for training: {counted(len(report.errors), 'error')}"
    return "fit for training"
