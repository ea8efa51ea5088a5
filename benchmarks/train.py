"""Training speed: tokens a second of LoRA training, against PEFT with dynamic padding, in one process.

    python -m benchmarks.train --data ../shared/data --output benchmarks/results/train.json

Runs from the repository's root; the data folder has a folder a set. Everyone trains the same adapter from the same
start with the same optimiser, schedule, clipping and dropout rate. First the losses of some steps without dropout
are compared with PEFT's on one text at a time, in fp32; who is wrong is reported and not timed. Tokens are counted
without padding. A workload is recorded as soon as it is measured; `--again` starts over.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.equality import TOLERANCES, WrongOutput, check
from benchmarks.layouts import load
from benchmarks.options import shared_options
from benchmarks.ratios import ratios
from benchmarks.report import Report, markdown, title
from benchmarks.serve import chosen
from benchmarks.timing import take_turns
from benchmarks.together import measure_together
from benchmarks.trainers import Course, OursTrainer, PeftTrainer, Trainer
from benchmarks.workloads import TARGETS, random_lora
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.data.dataset import load_dataset
from onetrunk.core.inference.adapter import Adapter, build_head
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Example
from onetrunk.core.training.encoded_dataset import encode_dataset
from onetrunk.core.training.settings import TrainSettings

TRAINERS: dict[str, Callable[[], Trainer]] = {
    "ours fp32 packed": OursTrainer,
    "ours bf16 packed": partial(OursTrainer, "bf16"),
    "peft fp32 padded": PeftTrainer,
    "peft bf16 padded": partial(PeftTrainer, "bf16"),
    "peft fp32 random": partial(PeftTrainer, batches="random"),
    "peft bf16 random": partial(PeftTrainer, "bf16", batches="random"),
}
"""`padded`: PEFT with dynamic padding on the batches of ours; `random`: on batches of any lengths."""
TASKS = {"clinc150": "intent", "banking77": "intent", "sst2": "sentiment"}
HEAD_SCALE = 20.0
"""The head starts larger than a fresh one, so that the losses that are compared hang on every hidden state."""
CHECKED = 96
"""Texts of the comparison before the clock starts."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One workload: a data set, the modules that are adapted and the rank."""

    data: str = "clinc150"
    targets: str = "all"
    rank: int = 16

    @property
    def key(self) -> str:
        """A name that is the same in every call."""
        return f"train {self.data} {self.targets}{self.rank}"


PLAN = (Lesson("clinc150"), Lesson("sst2"), Lesson("banking77"), Lesson("clinc150", "qv", 8))


TOGETHER = "train 4 together"
"""Four adapters at once against the same four in a row; not one of PLAN, whose lessons are of one adapter."""
FOUR = (Lesson("clinc150"), Lesson("sst2"), Lesson("banking77"), Lesson("clinc150", "qv", 8))


def course_of(
    lesson: Lesson, data: Path, backbone: Backbone, texts: int, batch_tokens: int, dropout: float
) -> Course:
    """Return `texts` examples of the lesson's training file, drawn by a seed, with an adapter to start from."""
    spec = PluginHost.discover().task(TASKS[lesson.data])
    whole = load_dataset(spec, data / lesson.data / "train.jsonl").examples
    labels = spec.learn_labels(whole)
    examples: list[Example] = random.Random(0).sample(list(whole), min(texts, len(whole)))
    settings = TrainSettings(
        rank=lesson.rank,
        alpha=2.0 * lesson.rank,
        targets=TARGETS[lesson.targets],
        epochs=1,
        batch_tokens=batch_tokens,
        dropout=dropout,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = build_head(spec, backbone, labels, backbone.pooling, dropout)
    for weight in head.parameters():
        weight.data *= HEAD_SCALE
    lora = random_lora(backbone, settings.targets, lesson.rank, seed=0)
    return Course(
        backbone=backbone,
        corpus=encode_dataset(spec, backbone, examples, labels),
        dev=encode_dataset(spec, backbone, examples[:1], labels),
        start=Adapter("start", spec, labels, backbone.pooling, lora, head, {}),
        settings=settings,
    )


def measure(
    trainers: Mapping[str, Callable[[], Trainer]], course: Course, small: Course, rounds: int
) -> dict[str, dict[str, Any]]:
    """Compare everyone's losses on `small`, time those that are right on `course`, and return a record each."""
    expected = torch.tensor(PeftTrainer(padded=False).run(small).losses)
    ready = {name: make() for name, make in trainers.items()}
    records = {name: verdict(trainer, small, expected) for name, trainer in ready.items()}
    turns = {
        name: partial(seconds, trainer, course)
        for name, trainer in ready.items()
        if records[name]["status"] == "ok"
    }
    for name, timing in take_turns(turns, rounds).items():
        records[name] |= timing.to_json()
    return records


def verdict(trainer: Trainer, small: Course, expected: torch.Tensor) -> dict[str, Any]:
    """Train on `small`: `ok` with the error of the losses, or `failed` with the reason."""
    record = {"precision": trainer.precision, "kind_of_error": TOLERANCES[trainer.precision].kind}
    try:
        losses = torch.tensor(trainer.plain().run(small).losses)
        error = check(losses, expected, trainer.precision)
    except WrongOutput as reason:
        return {**record, "status": "failed", "reason": str(reason)}
    return {**record, "status": "ok", "error": error, "checked_steps": len(expected)}


def seconds(trainer: Trainer, course: Course) -> tuple[float, ...]:
    """Return the seconds of the steps alone: models are made and data are read outside the clock."""
    return (trainer.run(course).seconds,)


def table(result: Mapping[str, Any]) -> str:
    """Return one workload's results as a Markdown table."""
    variants = result["variants"]
    first = "peft fp32 padded" if "peft fp32 padded" in variants else "in a row"
    base = variants.get(first, {}).get("median")
    rows = []
    for name, own in variants.items():
        if "median" not in own:
            rows.append([name, f"{own['status']}: {own['reason']}", "–", "–", "–"])
            continue
        factor = "–" if base is None else f"{base / own['median']:.2f}"
        speed = f"{result['tokens'] / own['median']:.0f}"
        error = f"{own['error']:.1e} {own['kind_of_error']}"
        rows.append([name, error, f"{own['median']:.2f}", speed, factor])
    return markdown(["variant", "error of losses", "median s", "tokens/s", f"× {first}"], rows)


@click.command()
@shared_options
@click.option("--texts", type=click.IntRange(CHECKED), default=3000, show_default=True, help="Texts a run.")
@click.option("--batch-tokens", type=click.IntRange(1), default=2048, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
def main(
    data: Path,
    output: Path,
    backbone: str,
    layout: str | None,
    device: str,
    patterns: str,
    variants: str,
    skip: str,
    texts: int,
    batch_tokens: int,
    rounds: int,
    threads: int | None,
    few: bool,
    again: bool,
) -> None:
    """Measure how fast an adapter trains, by OneTrunk and by PEFT."""
    if threads is not None:
        torch.set_num_threads(threads)
    plan = {lesson.key: lesson for lesson in (PLAN[:1] if few else PLAN)}
    keys = list(plan) if few else [*plan, TOGETHER]
    trainers = {name: TRAINERS[name] for name in chosen(list(TRAINERS), variants, skip)}
    report = Report(output, again)
    with tempfile.TemporaryDirectory() as scratch:
        own = load(backbone, layout, device, Path(scratch))
        for key in chosen(keys, patterns, ""):
            name = title(key, layout or backbone, own.device, few)
            if name not in report:
                click.echo(f"— {name}", err=True)
                lessons = FOUR if key == TOGETHER else (plan[key],)
                count = CHECKED if few else texts // len(lessons)
                whole = [course_of(each, data, own, count, batch_tokens, dropout=0.1) for each in lessons]
                small = [course_of(each, data, own, CHECKED, batch_tokens, dropout=0.0) for each in lessons]
                turns = 1 if few else rounds
                records = (
                    measure_together(whole, small, turns)
                    if key == TOGETHER
                    else measure(trainers, whole[0], small[0], turns)
                )
                tokens, read = sum(c.tokens for c in whole), sum(len(c.corpus.encoded) for c in whole)
                report.add(name, {"tokens": tokens, "texts": read, "variants": records}, own.device)
            click.echo(f"\n### {name}\n\n{table(report.results[name])}")
    if lines := ratios(report.results):
        click.echo(f"\n### Ratios\n\n{markdown(['workload', 'against', 'times as fast'], lines)}")


if __name__ == "__main__":
    main()
