"""`onetrunk.train`: the same training as `adapters train`, from Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onetrunk import TrainSettings, train
from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import DataError, UnknownTask, UsageError

SHORT = TrainSettings(epochs=2, lr=0.01, head_lr=0.01, rank=4, batch_tokens=64, precision="fp32")


@pytest.fixture
def file(tmp_path: Path, records: dict[str, list[Any]]) -> Callable[[str], Path]:
    def write(task: str) -> Path:
        path = tmp_path / f"{task}.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in records[task]), encoding="utf-8")
        return path

    return write


def test_the_adapter_is_stored_under_its_name(file: Callable[[str], Path], bert: Backbone) -> None:
    result = train("sentiment", file("sentiment"), name="mood", backbone=bert, settings=SHORT)
    assert result.stored is not None
    assert [each.ref for each in Store().versions("mood")] == [result.stored.ref] == ["mood@1"]
    assert set(result.metrics) == {"dev"}


def test_without_a_name_it_is_that_of_the_task_and_dev_and_test_are_used(
    file: Callable[[str], Path], bert_folder: Path
) -> None:
    rows = file("sentiment")
    result = train("sentiment", rows, dev=rows, test=rows, backbone=bert_folder, settings=SHORT)
    assert (result.stored and result.stored.ref, set(result.metrics)) == ("sentiment@1", {"dev", "test"})


def test_start_trains_a_stored_adapter_further(file: Callable[[str], Path], bert: Backbone) -> None:
    rows = file("sentiment")
    train("sentiment", rows, name="mood", backbone=bert, settings=SHORT)
    second = train("sentiment", rows, name="mood", start="mood@1", backbone=bert, settings=SHORT)
    assert second.stored is not None
    assert second.stored.read().manifest.parent == "mood@1"


def test_start_from_an_adapter_of_another_task_is_refused(
    file: Callable[[str], Path], bert: Backbone
) -> None:
    train("sentiment", file("sentiment"), name="mood", backbone=bert, settings=SHORT)
    with pytest.raises(UsageError, match="start='mood' is an adapter for task sentiment, not for ner"):
        train("ner", file("ner"), start="mood", backbone=bert, settings=SHORT)


def test_an_unknown_task_is_refused_with_the_known_ones(file: Callable[[str], Path]) -> None:
    with pytest.raises(UnknownTask, match=r"no plugin has the task 'moods'; known: .*sentiment"):
        train("moods", file("sentiment"))


def test_invalid_data_is_reported_before_a_backbone_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "good", "label": "pos"}\n{"label": "neg"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"rows\.jsonl:2: "):
        train("sentiment", path, backbone="no/such-backbone")
