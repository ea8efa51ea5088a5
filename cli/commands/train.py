"""`adapters train`: train an adapter on labelled files and store it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from onetrunk.adapters.card import CALIBRATED_ON_DEV
from onetrunk.adapters.store.references import validate_name
from onetrunk.cli.backbones import backbone_for
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.number_format import counted, duration, metric_rows, size
from onetrunk.cli.options import (
    TRAIN_GROUPS,
    GroupedCommand,
    backbone_option,
    device_option,
    training_options,
)
from onetrunk.cli.output import emit_json, json_option, say, table
from onetrunk.cli.reading_options import reading_options
from onetrunk.cli.threads import threads_option, use_threads
from onetrunk.cli.training import (
    parent_adapter,
    prepare_job,
    previous_metrics,
    record_of,
    train_job,
    with_notes,
)
from onetrunk.core.backbones.repository import OFFLINE_NAME
from onetrunk.core.errors import UsageError
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.train_plan import PlannedAdapter

if TYPE_CHECKING:
    from onetrunk.core.training.job import TrainResult


@click.command("train", cls=GroupedCommand, groups=TRAIN_GROUPS)
@click.argument("task", required=False)
@click.option("--train", "train_file", metavar="F", help="Training data: a file, a folder, or - for stdin.")
@click.option(
    "--dev",
    "dev_file",
    metavar="F",
    help="Dev data, on which the best epoch is chosen.  [default: a tenth of the training data]",
)
@click.option("--test", "test_file", metavar="F", help="Test data, evaluated once after training.")
@click.option("--name", metavar="N", help="Name of the adapter in the store.  [default: TASK]")
@click.option(
    "--from",
    "start",
    metavar="REF",
    help="Adapter to continue training from. Its labels, method, pooling and LoRA settings are used again.",
)
@backbone_option(f"that of the adapter of --from, else {OFFLINE_NAME}")
@click.option("--plan", metavar="F", help="TOML file that lists adapters to train together over one encoder.")
@device_option
@threads_option
@training_options
@reading_options()
@json_option
@click.pass_context
def command(
    context: click.Context,
    /,
    task: str | None,
    plan: str | None,
    name: str | None,
    device: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Train an adapter for TASK and store it as the next version of its name.

    `adapters plugins` lists the tasks. Data files are JSONL, JSON, CSV, TSV, CoNLL, or exports of other tools, see
    docs/data.md. If --train is a folder, its train, dev and test files are used. The adapter is stored only after
    the whole run has succeeded.

    The name means the new version only if that is not worse than the version that the name meant before, measured
    on the same dev and test data. The option --promote changes this.

    \b
    Example:
      adapters train ner --train train.conll --dev dev.conll --name people
      adapters train intent --train data/ --name support --from support@2 --epochs 5
      adapters train --plan plan.toml
    """
    if plan is not None:
        _refuse_beside_plan(context)
        from onetrunk.cli.train_plan import train_plan

        context.exit(train_plan(plugin_host(context), plan, device, options["threads"], as_json))
    files = {split: options.pop(f"{split}_file") for split in ("train", "dev", "test")}
    start, backbone, reading, threads = map(options.pop, ("start", "backbone", "reading", "threads"))
    if task is None or files["train"] is None:
        missing = "argument 'TASK'" if task is None else "option '--train'"
        raise click.UsageError(f"Missing {missing}; it is required unless --plan is given.", context)
    settings, name = TrainSettings(**options), validate_name(task if name is None else name)
    _check_files(tuple(files.values()))
    own = {"start": start, "settings": settings, "chosen": frozenset(_given(context))}
    adapter, host = PlannedAdapter(task=task, name=name, **files, **own), plugin_host(context)
    parent = parent_adapter(host, adapter, backbone)
    job = prepare_job(host, adapter, parent, reading)
    began = time.monotonic()
    parents = {} if parent is None else {parent[0].ref: parent[1]}
    loaded = backbone_for(parents, backbone, device, settings.precision)
    result = train_job(host, with_notes(job, use_threads(threads, loaded)), loaded)
    seconds = time.monotonic() - began
    if as_json:
        emit_json(record_of(result, seconds))
    else:
        _print(result, seconds)


def _given(context: click.Context) -> dict[str, str]:
    """Return the options and arguments on the command line by parameter name, as the user writes them."""
    names = {}
    for each in context.command.params:
        if context.get_parameter_source(str(each.name)) is ParameterSource.COMMANDLINE:
            names[str(each.name)] = (
                each.opts[0] if isinstance(each, click.Option) else each.human_readable_name
            )
    return names


def _refuse_beside_plan(context: click.Context) -> None:
    """Raise UsageError for an option of a single adapter: next to a plan it could be meant for one or for all."""
    for name, written in _given(context).items():
        if name not in ("plan", "device", "threads", "as_json"):
            raise UsageError(f"{written} cannot be combined with --plan; set it in the plan")


def _check_files(files: tuple[str | None, ...]) -> None:
    if "" in files:
        raise UsageError(
            "--train, --dev or --test has an empty file name; give the name of a file, or leave the option out"
        )
    if files.count("-") > 1:
        raise UsageError("only one of --train, --dev and --test can read stdin; give files for the others")


CHOSEN_BY = {
    "metric": "has the best metric on dev",
    "loss": "has the lowest loss on dev, because dev is small",
    "last": "is the last one, because dev is too small to choose another",
}
"""How the best epoch was chosen, in words, by `FinishedRun.selected_by`."""


def _print(result: TrainResult, seconds: float) -> None:
    metrics = {**result.metrics, **previous_metrics(result)}
    table(("result", *metrics), metric_rows(metrics), right=list(metrics))
    if result.decoder:
        say(CALIBRATED_ON_DEV)
    epochs = f"{len(result.run.history)} of {counted(result.run.trainable.settings.epochs or 0, 'epoch')}"
    about = [
        ("loss", f"{result.loss:.4f} in the best epoch ({result.run.best_epoch}); {epochs} run"),
        ("best epoch", CHOSEN_BY[result.run.selected_by]),
        ("parameters", f"{result.trained:,} trained, {result.share:.2%} of those of the backbone"),
        ("size", size(result.bytes) if result.stored else "-"),
        ("speed", f"{result.run.tokens_per_second:,.0f} tokens/s"),
        ("wall time", duration(seconds)),
        (
            "stored",
            result.stored.ref if result.stored else "not stored: method full is a baseline for comparison",
        ),
    ]
    if result.promotion is not None and result.promotion.promoted:
        about.append(("current", result.promotion.message))
    say()
    table(("training", ""), about)
