"""Adapters of regressions and of several labels per text, pulled for tasks that read logits in another way."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import UsageError
from onetrunk.core.interop.import_peft import import_peft
from onetrunk.core.tasks import Example, JSONObject, Labels, TaskSpec
from onetrunk.core.training.manifest_builder import Destination
from tests.core.interop.conftest import HOST, LABELS, Make, edit_tensors, taken

HEAD = "base_model.model.classifier"


def with_one_logit(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    edit_tensors(folder, {name: tensors[name][:1] for name in (f"{HEAD}.weight", f"{HEAD}.bias")})


def write_problem(folder: Path, problem: str) -> None:
    labels = {"id2label": dict(enumerate(LABELS["sentiment"]))}
    (folder / "config.json").write_text(json.dumps({**labels, "problem_type": problem}))


def each_by_itself(_: Example, logits: np.ndarray, labels: Labels, settings: JSONObject) -> JSONObject:
    """Decode several labels per text, each by its own probability."""
    return {"labels": dict(zip(labels, (1 / (1 + np.exp(-logits[0]))).tolist(), strict=True))}


@pytest.mark.parametrize("task", ["sentiment", "intent"])
def test_one_logit_is_refused_by_a_task_that_compares_logits(
    task: str, bert: Backbone, make: Make, store: Store
) -> None:
    folder, _ = make(bert, "sentiment")
    with_one_logit(folder)
    with pytest.raises(
        UsageError,
        match=f"it has one logit: each logit is a value; but the task '{task}' only .*always be 1",
    ):
        taken(folder, bert, store, task, labels=("positive",))
    assert store.names() == []


@pytest.mark.parametrize("problem", ["regression", "multi_label_classification"])
def test_a_problem_type_in_the_configuration_is_kept_to(
    problem: str, bert: Backbone, make: Make, store: Store
) -> None:
    folder, _ = make(bert, "sentiment")
    write_problem(folder, problem)
    with pytest.raises(UsageError, match=f"config.json says problem_type '{problem}': .*; give a --task"):
        taken(folder, bert, store, "sentiment", labels=None)
    assert store.names() == []


@pytest.mark.parametrize(
    "spoil", [with_one_logit, lambda each: write_problem(each, "multi_label_classification")]
)
def test_a_task_that_reads_each_logit_by_itself_takes_them(
    spoil: Callable[[Path], object], bert: Backbone, make: Make, store: Store
) -> None:
    folder, _ = make(bert, "sentiment")
    spoil(folder)
    spec: TaskSpec = replace(HOST.task("sentiment"), decode=each_by_itself)
    labels = LABELS["sentiment"][: 1 if spoil is with_one_logit else 3]
    assert import_peft(folder, spec, bert, Destination(HOST, store, "x"), labels).ref == "x@1"


def test_single_labels_are_taken_without_a_note(bert: Backbone, make: Make, store: Store) -> None:
    folder, _ = make(bert, "sentiment")
    write_problem(folder, "single_label_classification")
    notes: list[str] = []
    taken(folder, bert, store, "sentiment", notes=notes)
    assert notes == []


def test_files_that_do_not_tell_the_problem_are_noted(bert: Backbone, make: Make, store: Store) -> None:
    folder, _ = make(bert, "sentiment")
    notes: list[Any] = []
    taken(folder, bert, store, "sentiment", notes=notes)
    assert notes == [
        "the files do not say whether a text can have several of the 3 labels; the task 'sentiment' decides how "
        "they are read"
    ]
