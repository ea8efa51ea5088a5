"""`adapters train --plan`: train several adapters over one encoder; an error in one does not stop the others."""

from __future__ import annotations

import time
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from onetrunk.adapters.card import CALIBRATED_ON_DEV
from onetrunk.adapters.format.manifest import Manifest
from onetrunk.adapters.store.store import Store
from onetrunk.cli.backbones import backbone_for
from onetrunk.cli.number_format import duration, format_metric
from onetrunk.cli.output import emit_json, note, print_notes, printable, say, table
from onetrunk.cli.progress import TrainingProgress
from onetrunk.cli.threads import use_threads
from onetrunk.cli.training import parent_adapter, prepare_job, print_new_notes, record_of
from onetrunk.core.errors import OneTrunkError
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.training.train_plan import Plan, PlannedAdapter, read_plan

if TYPE_CHECKING:
    from onetrunk.core.backbones.backbone import Backbone
    from onetrunk.core.training.job import TrainJob
    from onetrunk.core.training.pipeline import Outcome


def train_plan(host: PluginHost, file: str, device: str, threads: int | None, as_json: bool) -> int:
    """Train the adapters of the plan `file` and report each; return the exit code, 1 if one failed."""
    plan = read_plan(file)
    began = time.monotonic()
    outcomes = _train(host, plan, device, threads)
    seconds = time.monotonic() - began
    if as_json:
        emit_json(*(_record(*pair, seconds) for pair in zip(plan.adapters, outcomes, strict=True)))
    else:
        _print(host, plan, outcomes, seconds)
    return int(any(isinstance(outcome, Exception) for outcome in outcomes))


def _train(host: PluginHost, plan: Plan, device: str, threads: int | None) -> list[Outcome]:
    """Return the result or the error of each adapter of the plan, in the order of the plan."""
    parents: dict[str, Manifest] = {}
    outcomes: dict[int, Outcome] = {}
    jobs: dict[int, TrainJob] = {}
    for index, own in enumerate(plan.adapters):
        try:
            parent = parent_adapter(host, own, plan.backbone)
            jobs[index] = prepare_job(host, own, parent, prefix=f"{own.name}: ")
        except OneTrunkError as error:
            outcomes[index] = error
            note(f"{own.name}: failed: {error}")
        else:
            if parent is not None:
                parents[parent[0].ref] = parent[1]
    if jobs:
        backbone = backbone_for(parents, plan.backbone, device, plan.precision)
        print_notes(use_threads(threads, backbone))
        outcomes |= _train_jobs(host, backbone, jobs)
    return [outcomes[index] for index in range(len(plan.adapters))]


def _train_jobs(host: PluginHost, backbone: Backbone, jobs: dict[int, TrainJob]) -> dict[int, Outcome]:
    from onetrunk.core.training.pipeline import train_adapters
    from onetrunk.core.training.run_state import TrainingCallback

    metrics = {job.name: host.task(job.task).primary for job in jobs.values()}
    with TrainingProgress(metrics) as progress:
        callback = TrainingCallback(progress.step, progress.epoch, progress.note)
        shown = [replace(job, callback=callback) for job in jobs.values()]

        def ended(index: int, outcome: Outcome) -> None:
            progress.say(shown[index].name, _ending(outcome))
            if not isinstance(outcome, Exception):
                for note in outcome.notes[len(shown[index].data.notes) :]:
                    progress.say(shown[index].name, str(note))

        outcomes = train_adapters(host, Store(), shown, backbone, ended)
    for job, outcome in zip(shown, outcomes, strict=True):
        if not isinstance(outcome, Exception):
            print_new_notes(job, outcome, f"{job.name}: ")
    return dict(zip(jobs, outcomes, strict=True))


def _ending(outcome: Outcome) -> str:
    if not isinstance(outcome, Exception):
        notes = "".join(f"; {note}" for note in (outcome.promotion.notes if outcome.promotion else ()))
        return f"stored as {outcome.stored and outcome.stored.ref}{printable(notes)}"
    if isinstance(outcome, OneTrunkError):
        return f"failed: {printable(str(outcome))}"
    # A bug of OneTrunk or of a plugin, for which the traceback helps.
    return "failed:\n" + "".join(traceback.format_exception(outcome)).rstrip()


def _record(own: PlannedAdapter, outcome: Outcome, seconds: float) -> dict[str, Any]:
    if isinstance(outcome, Exception):
        return {"adapter": None, "name": own.name, "task": own.task, "error": _reason(outcome)}
    return {"name": own.name, "task": own.task, **record_of(outcome, seconds)}


def _print(host: PluginHost, plan: Plan, outcomes: list[Outcome], seconds: float) -> None:
    rows = [_row(host, own, outcome) for own, outcome in zip(plan.adapters, outcomes, strict=True)]
    table(
        ("adapter", "task", "metric", "dev", "test", "best epoch", ""),
        rows,
        right=("dev", "test", "best epoch"),
    )
    for own, outcome in zip(plan.adapters, outcomes, strict=True):
        if not isinstance(outcome, Exception) and outcome.decoder:
            say(f"{own.name}: {CALIBRATED_ON_DEV}")
    done = sum(not isinstance(outcome, Exception) for outcome in outcomes)
    say()
    say(f"{done} of {len(outcomes)} adapters trained together in {duration(seconds)}")


def _row(host: PluginHost, own: PlannedAdapter, outcome: Outcome) -> tuple[str, ...]:
    if isinstance(outcome, Exception):
        return own.name, own.task, "-", "-", "-", "-", f"failed: {_reason(outcome)}"
    primary = host.task(own.task).primary
    dev, test = (outcome.metrics.get(split, {}).get(primary) for split in ("dev", "test"))
    ref = str(outcome.stored and outcome.stored.ref)
    epochs = f"{outcome.run.best_epoch} of {len(outcome.run.history)}"
    why = "" if outcome.promotion is None else outcome.promotion.message
    return ref, own.task, primary, format_metric(dev), format_metric(test), epochs, why


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, OneTrunkError) else f"{type(error).__name__}: {error}"
