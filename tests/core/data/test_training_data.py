"""What is refused before anything is trained, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from onetrunk.core.data.splits import Splits
from onetrunk.core.data.training_data import read_train_data
from onetrunk.core.errors import DataError, TaskSpecError
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Example, TaskNote, TaskSpec
from onetrunk.core.tasks.guarded_calls import notes_on


@pytest.fixture(scope="module")
def host() -> PluginHost:
    return PluginHost.discover()


@pytest.fixture
def sentiment(host: PluginHost) -> TaskSpec:
    return host.task("sentiment")


@pytest.fixture
def moods(tmp_path: Path) -> Path:
    """Ten sound rows of two labels."""
    file = tmp_path / "moods.jsonl"
    file.write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n' * 5)
    return file


@pytest.mark.parametrize(
    ("task", "good", "bad", "fault"),
    [
        (
            "sentiment",
            '{"text": "a", "label": "x"}',
            '{"text": "b"}',
            "the record has no label; add one, or remove the record",
        ),
        (
            "intent",
            '{"text": "a", "label": "x"}',
            '{"text": "b", "label": null}',
            "the record has no label; add one, or remove the record",
        ),
        (
            "ner",
            '{"words": ["a"], "tags": ["O"]}',
            '{"text": "b"}',
            "has neither tags nor entities; .*--label-column",
        ),
    ],
)
def test_a_row_without_a_target_is_told_before_what_the_other_rows_lack(
    host: PluginHost, tmp_path: Path, task: str, good: str, bad: str, fault: str
) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text(f"{bad}\n{good}\n")
    with pytest.raises(DataError, match=rf"train\.jsonl:1: .*{fault}$"):
        read_train_data(host.task(task), Splits(file))


def test_a_table_without_the_column_of_labels_is_told_by_its_header(
    sentiment: TaskSpec, tmp_path: Path
) -> None:
    file = tmp_path / "train.csv"
    file.write_text("text,kind\na,x\nb,y\n")
    with pytest.raises(
        DataError,
        match=r"check the header \(text, kind\): the record has no label; add one.*\n"
        "name its column with --label-column, or",
    ):
        read_train_data(sentiment, Splits(file))


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        (lambda _: (1, 2), "labels has 1; expected non-empty strings"),
        (lambda _: ("x", ""), "labels has ''; expected non-empty strings"),
        (lambda _: ("x", "y", "x"), "labels has duplicates"),
        (
            lambda _: sorted(cast("Any", {1, "x"})),
            r"labels raises TypeError: '<' not supported .*\.py:\d+\)",
        ),
    ],
)
def test_invalid_labels_are_a_fault_of_the_task(
    sentiment: TaskSpec, moods: Path, labels: Callable[..., Any], fault: str
) -> None:
    with pytest.raises(TaskSpecError, match=f"^task 'sentiment': {fault}"):
        read_train_data(replace(sentiment, labels=labels), Splits(moods))


@pytest.mark.parametrize("labels", [(1, 2), ("x", ""), ("x", "x")])
def test_fixed_labels_that_are_none_are_a_fault_of_the_description(
    sentiment: TaskSpec, labels: tuple[Any, ...]
) -> None:
    with pytest.raises(TaskSpecError, match=r"^task 'sentiment': labels has "):
        replace(sentiment, labels=labels)


@pytest.mark.parametrize("part", ["calibrate", "split", "notes", "encoded_notes"])
def test_a_part_that_may_be_missing_may_not_be_anything_else(sentiment: TaskSpec, part: str) -> None:
    odd: dict[str, Any] = {part: "x"}
    with pytest.raises(TaskSpecError, match=f"{part} must be callable or None"):
        replace(sentiment, **odd)


def test_the_notes_of_a_task_are_lines_or_notes_with_a_kind(sentiment: TaskSpec) -> None:
    assert notes_on(sentiment, [Example("a")]) == ()
    odd = TaskNote("odd", "1 text is odd", 1, "f:1")
    own = replace(sentiment, notes=lambda examples: [f"{len(examples)} texts", odd])
    assert notes_on(own, [Example("a")]) == (TaskNote("task", "1 texts"), odd)


@pytest.mark.parametrize(
    ("notes", "fault"),
    [
        (lambda _: [3], "notes returns 3, expected strings"),
        (lambda _: 1 / 0, r"notes raises ZeroDivisionError: division by zero \(.*\.py:\d+\)"),
    ],
)
def test_notes_that_are_no_strings_are_the_tasks_fault(
    sentiment: TaskSpec, notes: Callable[..., Any], fault: str
) -> None:
    with pytest.raises(TaskSpecError, match=f"task 'sentiment': {fault}"):
        notes_on(replace(sentiment, notes=notes), [])
