"""The number of CPU threads: chosen by the user, limited by the container, one on a busy machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.store.store import Store
from onetrunk.cli.threads import choose_threads, step_seconds


def never(_threads: int) -> float:
    raise AssertionError("nothing is measured on an idle machine")


@pytest.fixture
def kept_threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("threads", "processors", "expected"), [(2, 2, (2, "")), (1, 4, (1, "")), (8, 8, (8, ""))]
)
def test_an_idle_machine_uses_all_its_threads(
    threads: int, processors: int, expected: tuple[int, str]
) -> None:
    assert choose_threads(threads, processors, 0.3, never) == expected


def test_a_container_with_fewer_processors_uses_no_more_threads() -> None:
    assert choose_threads(8, 2, 0.0, never) == (
        2,
        "the process may use 2 of the processors; --threads sets it",
    )


def by(seconds: dict[int, float]) -> Callable[[int], float]:
    return seconds.__getitem__


def test_on_a_busy_machine_one_thread_is_used_if_it_is_faster() -> None:
    threads, why = choose_threads(2, 2, 1.7, by({1: 0.1, 2: 0.5}))
    assert threads == 1
    assert why.startswith(
        "other processes use the processors (load 1.7), and one thread is 5.0 times as fast as 2"
    )


def test_on_a_busy_machine_all_threads_are_used_if_they_are_faster() -> None:
    assert choose_threads(2, 2, 1.7, by({1: 0.1, 2: 0.06})) == (2, "")


@pytest.mark.usefixtures("kept_threads")
def test_a_measured_step_runs_with_the_number_of_threads() -> None:
    assert step_seconds(2) > 0
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("kept_threads")
@pytest.mark.parametrize("threads", [1, 2])
def test_train_and_eval_use_the_threads_that_the_user_chose(
    run: Any, data: Path, backbone: Path, threads: int
) -> None:
    line = ("train", "sentiment", "--train", data / "mood", "--name", "mood", "--backbone", backbone)
    done = run(*line, "--epochs", "1", "--threads", threads, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["adapter"] == "mood@1"
    (stored,) = Store().versions()
    assert read_manifest(stored.path).training["threads"] == threads
    done = run("eval", "mood", "--data", data / "mood", "--backbone", backbone, "--threads", 3 - threads)
    assert done.exit_code == 0, done.stderr
    assert torch.get_num_threads() == 3 - threads
