from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.together import measure_together
from benchmarks.train import TRAINERS, Lesson, course_of, main, measure
from benchmarks.trainers import Course, OursTrainer, Outcome, PeftTrainer, same_batches
from onetrunk.core.backbones.backbone import Backbone

LESSON = Lesson("clinc150", "all", 4)


class Faster(OursTrainer):
    """A wrong variant: it learns at twice the rate."""

    runs = 0

    def run(self, course: Course) -> Outcome:
        self.runs += 1
        return super().run(replace(course, settings=replace(course.settings, lr=2e-3, head_lr=6e-3)))


@pytest.fixture(scope="module")
def course(data: Path, bert: Backbone) -> Course:
    """Sixty texts in batches of few tokens: several steps."""
    return course_of(LESSON, data, bert, texts=60, batch_tokens=100, dropout=0.0)


def test_every_trainer_has_the_losses_of_one_text_at_a_time(course: Course) -> None:
    records = measure(TRAINERS, course, course, rounds=1)
    assert {name: own["status"] for name, own in records.items()} == dict.fromkeys(TRAINERS, "ok")
    assert all(own["median"] > 0 and own["checked_steps"] > 3 for own in records.values())


def test_a_trainer_that_learns_otherwise_is_reported_and_not_timed(course: Course) -> None:
    wrong = Faster()
    record = measure({"wrong": lambda: wrong}, course, course, rounds=2)["wrong"]
    assert wrong.runs == 1
    assert record["status"] == "failed"
    assert "largest error" in record["reason"]
    assert "median" not in record


def test_random_batches_hold_every_text_once_in_as_many_steps(course: Course) -> None:
    random_batches = PeftTrainer(batches="random").run(course)
    assert len(random_batches.losses) == len(same_batches(course))
    assert random_batches.losses != PeftTrainer().run(course).losses


def test_dropout_is_on_where_it_is_asked(course: Course) -> None:
    with_dropout = replace(course, settings=replace(course.settings, dropout=0.5))
    for trainer in (OursTrainer(), PeftTrainer()):
        assert trainer.run(with_dropout).losses != trainer.run(course).losses


def test_a_quick_run_writes_what_it_measured(data: Path, bert_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "train.json"
    line = ["--data", str(data), "--output", str(output), "--backbone", str(bert_folder), "--quick"]
    done = CliRunner().invoke(main, [*line, "--skip", "*bf16*"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "ours fp32 packed against peft fp32 padded" in done.output
    (result,) = json.loads(output.read_text())["results"].values()
    assert [own["status"] for own in result["variants"].values()] == ["ok"] * 3
    assert result["tokens"] > 0


def test_runs_that_share_their_steps_are_compared_with_runs_in_a_row(course: Course) -> None:
    records = measure_together([course, course], [course, course], rounds=1)
    assert {name: own["status"] for name, own in records.items()} == {"in a row": "ok", "together": "ok"}
    assert all(own["median"] > 0 and own["error"] <= 1e-4 for own in records.values())
