"""`adapters train --plan`: train several adapters over one encoder; an error in one does not stop the others."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING, Any

import click

from onetrunk.adapters.card import CALIBRATED_ON_DEV
from onetrunk.adapters.store.store import Store
from onetrunk.cli.backbones import choose_backbone
from onetrunk.cli.number_format import duration, format_metric
from onetrunk.cli.output import emit_json, print_notes, printable, say, table
from onetrunk.cli.quiet import load_backbone
from onetrunk.cli.train_from import Parent, parent_adapter
from onetrunk.cli.train_report import record_of
from onetrunk.core.errors import OneTrunkError
from onetrunk.core.training.train_plan import Plan, PlannedAdapter, read_plan

if TYPE_CHECKING:
    from onetrunk.cli.progress import TrainingProgress
    from onetrunk.core.plugin_system.host import PluginHost
    from onetrunk.core.training.pipeline import Outcome, TrainJob


def train_plan(host: PluginHost, file: str, device: str, as_json: bool) -> int:
    """Train the adapters of the plan `file` and report each; return the exit code, 1 if one failed."""
    plan = read_plan(file)
    began = time.monotonic()
    outcomes = _train(host, plan, device)
    seconds = time.monotonic() - began
    if as_json:
        for own, outcome in zip(plan.adapters, outcomes, strict=True):
            emit_json(_record(own, outcome, seconds))
    else:
        _print(host, plan, outcomes, seconds)
    return int(any(isinstance(outcome, Exception) for outcome in outcomes))


def _train(host: PluginHost, plan: Plan, device: str) -> list[Outcome]:
    """Return the result, or the error, of each adapter of the plan, in its order."""

    parents: dict[int, Parent] = {}
    outcomes: dict[int, Outcome] = {}
    jobs: dict[int, TrainJob] = {}
    for index, own in enumerate(plan.adapters):
        try:
            if own.start is not None:
                parents[index] = parent_adapter(lambda: host, own.start, own.task, own.chosen, plan.backbone)
            jobs[index] = _job(host, own, parents.get(index))
        except OneTrunkError as error:
            outcomes[index] = error
            _tell(own.name, error)
    if jobs:
        chosen = {stored.ref: manifest for index, (stored, manifest) in parents.items() if index in jobs}
        name, revision = choose_backbone(chosen, plan.backbone)
        backbone = load_backbone(name, revision, device=device, dtype=plan.precision)
        outcomes |= _train_jobs(host, backbone, jobs)
    return [outcomes[index] for index in range(len(plan.adapters))]


def _job(host: PluginHost, own: PlannedAdapter, parent: Parent | None) -> TrainJob:
    from onetrunk.core.data.dataset import Splits
    from onetrunk.core.data.training_data import read_train_data
    from onetrunk.core.training.pipeline import TrainJob

    labels = None if parent is None else parent[1].labels
    spec = host.task(own.task)
    data = read_train_data(spec, Splits(own.train, own.dev, own.test), seed=own.settings.seed, labels=labels)
    print_notes(data.notes, own.name)
    return TrainJob(own.task, own.name, data, own.settings, parent and parent[0])


def _train_jobs(host: PluginHost, backbone: Any, jobs: dict[int, TrainJob]) -> dict[int, Outcome]:
    from dataclasses import replace

    from onetrunk.cli.progress import TrainingProgress
    from onetrunk.core.training.pipeline import train_adapters
    from onetrunk.core.training.run_state import TrainingCallback

    shown = {job.name: host.task(job.task).primary for job in jobs.values()}
    with TrainingProgress(shown) as progress:
        callback = TrainingCallback(progress.step, progress.epoch)
        heard = [replace(job, callback=callback) for job in jobs.values()]

        def ended(index: int, outcome: Outcome) -> None:
            _end(progress, heard[index].name, outcome)

        outcomes = train_adapters(host, Store(), heard, backbone, ended)
    return dict(zip(jobs, outcomes, strict=True))


def _end(progress: TrainingProgress, name: str, outcome: Outcome) -> None:
    if not isinstance(outcome, Exception):
        progress.say(name, f"stored as {outcome.stored.ref}" if outcome.stored else "done")
    elif isinstance(outcome, OneTrunkError):
        progress.say(name, f"failed: {outcome}")
    else:  # a bug of OneTrunk or of a plugin: the traceback helps
        progress.say(name, "failed:\n" + "".join(traceback.format_exception(outcome)).rstrip())


def _tell(name: str, error: OneTrunkError) -> None:
    click.echo(printable(f"{name}: failed: {error}"), err=True)


def _record(own: PlannedAdapter, outcome: Outcome, seconds: float) -> dict[str, Any]:
    if isinstance(outcome, Exception):
        return {"adapter": None, "name": own.name, "task": own.task, "error": _reason(outcome)}
    return {"name": own.name, "task": own.task, **record_of(outcome, seconds)}


def _print(host: PluginHost, plan: Plan, outcomes: list[Outcome], seconds: float) -> None:
    rows = [_row(host, own, outcome) for own, outcome in zip(plan.adapters, outcomes, strict=True)]
    table(("adapter", "task", "metric", "dev", "test", "epochs", ""), rows, right=("dev", "test", "epochs"))
    for own, outcome in zip(plan.adapters, outcomes, strict=True):
        if not isinstance(outcome, Exception) and outcome.decoder:
            say(f"{own.name}: {CALIBRATED_ON_DEV}")
    done = sum(not isinstance(outcome, Exception) for outcome in outcomes)
    say(f"\n{done} of {len(outcomes)} adapters trained together in {duration(seconds)}")


def _row(host: PluginHost, own: PlannedAdapter, outcome: Outcome) -> tuple[str, ...]:
    if isinstance(outcome, Exception):
        return own.name, own.task, "-", "-", "-", "-", f"failed: {_reason(outcome)}"
    primary = host.task(own.task).primary
    dev, test = (outcome.metrics.get(split, {}).get(primary) for split in ("dev", "test"))
    ref = outcome.stored.ref if outcome.stored else own.name
    epochs = f"{outcome.run.best_epoch} of {len(outcome.run.history)}"
    return ref, own.task, primary, format_metric(dev), format_metric(test), epochs, ""


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, OneTrunkError) else f"{type(error).__name__}: {error}"
