"""`adapters quickstart`: train three adapters on sample data of this package, and predict with them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from onetrunk.adapters.card import CALIBRATED_ON_DEV
from onetrunk.cli.backbones import load_backbone
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.number_format import counted, duration, format_metric, scalar_metrics
from onetrunk.cli.options import backbone_option
from onetrunk.cli.output import emit_json, json_option, note, say, table
from onetrunk.cli.training import train_job
from onetrunk.core.backbones.repository import OFFLINE_NAME
from onetrunk.core.training.settings import TrainSettings

if TYPE_CHECKING:
    from onetrunk.core.backbones.backbone import Backbone
    from onetrunk.core.data.training_data import TrainData
    from onetrunk.core.plugin_system.host import PluginHost
    from onetrunk.core.tasks.prediction import Prediction
    from onetrunk.core.training.job import TrainResult

SETTINGS = MappingProxyType(
    {
        "ner": TrainSettings(epochs=12, lr=2e-3, head_lr=2e-3),
        "sentiment": TrainSettings(epochs=6, lr=2e-3, head_lr=2e-3),
        # A lower learning rate gives less confident scores, which separate out-of-scope texts better.
        "intent": TrainSettings(epochs=6, lr=5e-4, head_lr=5e-3),
    }
)
"""Settings by task, chosen for a few hundred rows."""

_COLUMNS = ("adapter", "rows", "time", "result", "on dev")

TEXTS = (
    "Maria Costa moved from Lisbon to Geneva to work for the Red Cross.",
    "The new Kindle is a joy: light, quick, and easy on the eyes.",
    "Where is my parcel? Anna said it left Rotterdam on Monday.",
    "Terrible: my Philips kettle broke after two days and Amazon will not answer.",
    "Who wrote the song that Anna hummed all day?",
)
"""Texts to predict; the sample data does not have them."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """The training for one task. seconds: duration of the training."""

    ref: str
    task: str
    data: TrainData
    result: TrainResult
    seconds: float


@click.command("quickstart")
@backbone_option(OFFLINE_NAME)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="Epochs for each task.  [default: 12 for ner, 6 for the others]",
)
@click.option("--seed", default=0, show_default=True, help="Random seed.")
@json_option
@click.pass_context
def command(
    context: click.Context, backbone: str | None, epochs: int | None, seed: int, as_json: bool
) -> None:
    """Train adapters for ner, sentiment and intent on sample data, store them, and predict with all three at once.

    The sample data has a few hundred sentences for each task, written for this command. That is enough to show how
    OneTrunk works, but not to measure its quality.

    \b
    Example:
      adapters quickstart
    """
    host, loaded = plugin_host(context), load_backbone(backbone or OFFLINE_NAME)
    trials = [
        _train(host, loaded, task, replace(own, epochs=epochs or own.epochs, seed=seed))
        for task, own in SETTINGS.items()
    ]
    references = [trial.ref for trial in trials]
    from onetrunk.core.inference.predictor import OneTrunk

    trunk = OneTrunk(loaded, host=host)
    for reference in references:
        trunk.load(reference)
    answers = trunk.predict(TEXTS, references)
    if as_json:
        emit_json(_record(trials, answers))
    else:
        _print(trials, answers)


def _train(host: PluginHost, backbone: Backbone, task: str, settings: TrainSettings) -> _Trial:
    from onetrunk.core.data.splits import Splits
    from onetrunk.core.data.training_data import read_train_data
    from onetrunk.core.training.job import TrainJob

    spec, name = host.task(task), f"quickstart-{task}"
    with as_file(files("onetrunk.plugins") / "samples" / task) as samples:
        data = read_train_data(spec, Splits(samples))
    rows = counted(len(data.train.examples), "row")
    note(f"{name}: {rows} to train on, {len(data.dev.examples)} for dev")
    began = time.monotonic()
    result = train_job(host, TrainJob(task, name, data, settings), backbone)
    ref = str(result.stored and result.stored.ref)
    return _Trial(ref, task, data, result, time.monotonic() - began)


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
    say("The adapters are in the store; `adapters list` shows them. Next steps:")
    say(f'  adapters predict {references} "Your text."')
    say("  adapters train ner --train your-data.jsonl --name mine")


def _rows(trial: _Trial) -> Iterator[tuple[str, ...]]:
    """Yield a table row for each metric; only the first one has the adapter, its data and the time."""
    rows = f"{len(trial.data.train.examples)}, dev {len(trial.data.dev.examples)}"
    about: tuple[str, ...] = (trial.ref, rows, duration(trial.seconds))
    for name, value in scalar_metrics(trial.result.metrics["dev"]).items():
        yield *about, name, format_metric(value)
        about = ("",) * len(about)
