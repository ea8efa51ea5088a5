"""`adapters quickstart`: train three adapters on the samples of the package, and predict with them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from onetrunk.adapters.card import CALIBRATED_ON_DEV
from onetrunk.adapters.store.store import Store
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.number_format import counted, duration, format_metric, scalar_metrics
from onetrunk.cli.output import emit_json, json_option, say, table
from onetrunk.cli.quiet import load_backbone
from onetrunk.core.backbones.repository import OFFLINE_NAME
from onetrunk.core.training.settings import TrainSettings

if TYPE_CHECKING:
    from onetrunk.core.backbones.backbone import Backbone
    from onetrunk.core.data.training_data import TrainData
    from onetrunk.core.plugin_system.host import PluginHost
    from onetrunk.core.tasks.prediction import Prediction
    from onetrunk.core.training.pipeline import TrainResult

SETTINGS = MappingProxyType(
    {
        "ner": TrainSettings(epochs=12, lr=2e-3, head_lr=2e-3),
        "sentiment": TrainSettings(epochs=6, lr=2e-3, head_lr=2e-3),
        # A lower rate gives less confident scores, which separate out-of-scope texts better.
        "intent": TrainSettings(epochs=6, lr=5e-4, head_lr=5e-3),
    }
)
"""Settings for each task, for a few hundred rows."""

_COLUMNS = ("adapter", "rows", "time", "result", "on dev")

TEXTS = (
    "Maria Costa moved from Lisbon to Geneva to work for the Red Cross.",
    "The new Kindle is a joy: light, quick, and easy on the eyes.",
    "Where is my parcel? Anna said it left Rotterdam on Monday.",
    "Terrible: my Philips kettle broke after two days and Amazon will not answer.",
    "Who wrote the song that Anna hummed all day?",
)
"""Texts that are in none of the samples."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """One task: its data, the result of its training, and the seconds it took."""

    task: str
    data: TrainData
    result: TrainResult
    seconds: float

    @property
    def ref(self) -> str:
        return "" if self.result.stored is None else self.result.stored.ref


@click.command("quickstart")
@click.option(
    "--backbone",
    metavar="B",
    default=OFFLINE_NAME,
    show_default=True,
    help="Hub id or folder of the backbone.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="Epochs for each task.  [default: 12 for ner, 6 for the others]",
)
@click.option("--seed", default=0, show_default=True, help="Random seed.")
@json_option
@click.pass_context
def command(context: click.Context, backbone: str, epochs: int | None, seed: int, as_json: bool) -> None:
    """Train adapters for ner, sentiment and intent on samples, store them, and predict with all three at once.

    The samples are a few hundred sentences for each task, written for this purpose. They show how OneTrunk works;
    they are too few to measure its quality.

    \b
    Example:
      adapters quickstart
    """

    host, trunk = plugin_host(context), load_backbone(backbone)
    trials = [
        _train(host, trunk, task, replace(own, epochs=epochs or own.epochs, seed=seed))
        for task, own in SETTINGS.items()
    ]
    answers = _predict(host, trunk, [trial.ref for trial in trials])
    if as_json:
        emit_json(_record(trials, answers))
    else:
        _print(trials, answers)


def _train(host: PluginHost, backbone: Backbone, task: str, settings: TrainSettings) -> _Trial:
    from onetrunk.cli.progress import TrainingProgress
    from onetrunk.core.data.dataset import Splits
    from onetrunk.core.data.training_data import read_train_data
    from onetrunk.core.training.pipeline import TrainJob, train_adapter
    from onetrunk.core.training.run_state import TrainingCallback

    spec, name = host.task(task), f"quickstart-{task}"
    with as_file(files("onetrunk.plugins") / "samples" / task) as samples:
        data = read_train_data(spec, Splits(samples))
    rows = counted(len(data.train.examples), "row")
    click.echo(f"{name}: {rows} to train on, {len(data.dev.examples)} for dev", err=True)
    began = time.monotonic()
    with TrainingProgress({name: spec.primary}) as progress:
        callback = TrainingCallback(progress.step, progress.epoch)
        job = TrainJob(task, name, data, settings, callback=callback)
        result = train_adapter(host, Store(), job, backbone)
    return _Trial(task, data, result, time.monotonic() - began)


def _predict(host: PluginHost, backbone: Backbone, references: Sequence[str]) -> list[list[Prediction]]:
    from onetrunk.core.inference.predictor import OneTrunk

    trunk = OneTrunk(backbone, host=host)
    for reference in references:
        trunk.load(reference)
    return trunk.predict(TEXTS, references)


def _record(trials: Sequence[_Trial], answers: Sequence[Sequence[Prediction]]) -> dict[str, Any]:
    return {
        "adapters": [
            {
                "adapter": trial.ref,
                "task": trial.task,
                "rows": {split: len(data.examples) for split, data in trial.data.splits.items()},
                "metrics": scalar_metrics(trial.result.metrics["dev"]),
                "seconds": round(trial.seconds, 3),
            }
            for trial in trials
        ],
        "predictions": [answer.to_json() for own in answers for answer in own],
    }


def _print(trials: Sequence[_Trial], answers: Sequence[Sequence[Prediction]]) -> None:
    from onetrunk.cli.highlight import Highlighter

    table(_COLUMNS, (row for trial in trials for row in _rows(trial)), right=("time", "on dev"))
    for task in (trial.task for trial in trials if trial.result.decoder):
        say(f"{task}: {CALIBRATED_ON_DEV}")
    say()
    highlighter = Highlighter()
    for own in answers:
        highlighter.show(own)
    references = ",".join(trial.ref.partition("@")[0] for trial in trials)
    say("The adapters are in the store (`adapters list`). Next steps:")
    say(f'  adapters predict {references} "Your text."')
    say("  adapters train ner --train your-data.jsonl --name mine")


def _rows(trial: _Trial) -> Iterator[tuple[str, ...]]:
    """Yield a row for each metric; the first row also has the adapter, the rows and the time."""
    rows = f"{len(trial.data.train.examples)}, dev {len(trial.data.dev.examples)}"
    about: tuple[str, ...] = (trial.ref, rows, duration(trial.seconds))
    for name, value in scalar_metrics(trial.result.metrics["dev"]).items():
        yield *about, name, format_metric(value)
        about = ("",) * len(about)
