"""`adapters train`: train an adapter on labelled files and store it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from onetrunk.adapters.card import CALIBRATED_ON_DEV
from onetrunk.adapters.store.references import validate_name
from onetrunk.adapters.store.store import Store
from onetrunk.cli.backbones import choose_backbone
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.number_format import counted, duration, format_metric, scalar_metrics, size
from onetrunk.cli.options import device_option, training_options
from onetrunk.cli.output import emit_json, json_option, print_notes, say, table
from onetrunk.cli.quiet import load_backbone
from onetrunk.cli.reading_options import reading_options
from onetrunk.cli.train_from import Parent, parent_adapter
from onetrunk.cli.train_report import record_of
from onetrunk.core.backbones.repository import OFFLINE_NAME
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.errors import UsageError
from onetrunk.core.training.settings import TrainSettings

if TYPE_CHECKING:
    from onetrunk.core.data.training_data import TrainData
    from onetrunk.core.plugin_system.host import PluginHost
    from onetrunk.core.training.pipeline import TrainJob, TrainResult


@click.command("train")
@click.argument("task", required=False)
@click.option("--train", "train_file", metavar="F", help="Training data: a file, a folder, or - for stdin.")
@click.option(
    "--dev",
    "dev_file",
    metavar="F",
    help="Dev data, which selects the best epoch.  [default: a tenth of the training data]",
)
@click.option("--test", "test_file", metavar="F", help="Test data, evaluated once after training.")
@click.option(
    "--name", metavar="N", help="Name of the adapter in the store.  [default: the name of the task]"
)
@click.option(
    "--from",
    "start",
    metavar="REF",
    help="Adapter to continue training from; its labels and LoRA settings are kept.",
)
@click.option(
    "--backbone",
    metavar="B",
    help=f"Hub id or folder of the backbone.  [default: the one of --from, or {OFFLINE_NAME}]",
)
@click.option(
    "--plan",
    metavar="F",
    help="TOML file that lists adapters to train together over one encoder.",
)
@device_option
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

    Data files are JSONL, JSON, CSV, TSV, CoNLL, or exports of other tools (docs/data.md); a folder holds train, dev
    and test files. `adapters plugins` lists the tasks. The adapter is stored only after the whole run succeeded.

    \b
    Example:
      adapters train ner --train train.conll --dev dev.conll --name people
      adapters train intent --train data/ --name support --from support@2 --epochs 5
      adapters train --plan plan.toml
    """
    if plan is not None:
        _refuse_beside_plan(context)
        from onetrunk.cli.train_plan import train_plan

        context.exit(train_plan(plugin_host(context), plan, device, as_json))
    if task is None or options["train_file"] is None:
        missing = "argument 'TASK'" if task is None else "option '--train'"
        raise click.UsageError(f"Missing {missing}; it is required unless --plan is given.", context)
    files = [options.pop(f"{split}_file") for split in ("train", "dev", "test")]
    start, backbone, reading = options.pop("start"), options.pop("backbone"), options.pop("reading")
    settings, name = TrainSettings(**options), validate_name(task if name is None else name)
    parent = (
        None
        if start is None
        else parent_adapter(lambda: plugin_host(context), start, task, _given(context), backbone)
    )
    data = _read(context, task, files, (settings.seed, reading), parent)
    from onetrunk.core.training.pipeline import TrainJob

    began = time.monotonic()
    job = TrainJob(task, name, data, settings, parent and parent[0])
    result = _train(plugin_host(context), job, parent, backbone, device)
    seconds = time.monotonic() - began
    if as_json:
        emit_json(record_of(result, seconds))
    else:
        _print(result, seconds)


def _given(context: click.Context) -> list[str]:
    """Return the names of the parameters that were given on the command line."""
    return [
        name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]


def _refuse_beside_plan(context: click.Context) -> None:
    """Raise UsageError for an option that belongs into the plan: it could be meant for one adapter or for all."""
    for name in _given(context):
        if name not in ("plan", "device", "as_json"):
            raise UsageError(f"{name.replace('_', '-')} cannot be combined with --plan; set it in the plan")


def _read(
    context: click.Context,
    task: str,
    files: list[str | None],
    reading: tuple[int, ReadOptions],
    parent: Parent | None,
) -> TrainData:
    """Read and check the data; print notes on it, such as that dev rows are held out.

    reading: the seed of the held-out sample, and how to read the files.
    """
    spec = plugin_host(context).task(task)
    if "" in files:
        raise UsageError(
            "--train, --dev or --test has an empty file name; give the name of a file, or leave the option out"
        )
    if files.count("-") > 1:
        raise UsageError("only one of --train, --dev and --test can read stdin; give files for the others")
    from onetrunk.core.data.dataset import Splits
    from onetrunk.core.data.training_data import read_train_data

    labels = None if parent is None else parent[1].labels
    train_file, dev_file, test_file = files
    seed, options = reading
    splits = Splits(train_file or "", dev_file, test_file)
    data = read_train_data(spec, splits, seed=seed, labels=labels, options=options)
    print_notes(data.notes)
    return data


def _train(
    host: PluginHost, job: TrainJob, parent: Parent | None, backbone: str | None, device: str
) -> TrainResult:
    """Run one training, with its progress on stderr."""
    from onetrunk.cli.progress import TrainingProgress
    from onetrunk.core.training.full_finetuning import train_full
    from onetrunk.core.training.pipeline import train_adapter
    from onetrunk.core.training.run_state import TrainingCallback

    parents = {} if parent is None else {parent[0].ref: parent[1]}
    where, revision = choose_backbone(parents, backbone)
    loaded = load_backbone(where, revision, device=device, dtype=job.settings.precision)
    with TrainingProgress({job.name: host.task(job.task).primary}) as progress:
        job = replace(job, callback=TrainingCallback(progress.step, progress.epoch))
        if job.settings.method == "full":
            return train_full(host, job, loaded)
        return train_adapter(host, Store(), job, loaded)


def _print(result: TrainResult, seconds: float) -> None:
    by_split = {split: scalar_metrics(metrics) for split, metrics in result.metrics.items()}
    names = dict.fromkeys(name for figures in by_split.values() for name in figures)
    rows = [(name, *(format_metric(own.get(name)) for own in by_split.values())) for name in names]
    table(("result", *by_split), rows, right=list(by_split))
    if result.decoder:
        say(CALIBRATED_ON_DEV)
    epochs = f"{len(result.run.history)} of {counted(result.run.trainable.settings.epochs or 0, 'epoch')}"
    about = [
        ("loss", f"{result.loss:.4f} in the best epoch, {result.run.best_epoch}; {epochs} run"),
        ("parameters", f"{result.trained:,} trained, {result.share:.2%} of those of the backbone"),
        ("size", size(result.bytes) if result.stored else "-"),
        ("speed", f"{result.run.tokens_per_second:,.0f} tokens/s"),
        ("wall time", duration(seconds)),
        (
            "stored",
            result.stored.ref if result.stored else "not stored: method full is a baseline for comparison",
        ),
    ]
    say()
    table(("training", ""), about)
