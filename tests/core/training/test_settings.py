from __future__ import annotations

import json
from typing import Any

import pytest

from onetrunk.adapters.methods.lora import MODULES
from onetrunk.core.errors import UsageError
from onetrunk.core.training.settings import HEAD_LEARNING_RATE, LEARNING_RATES, TrainSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank must be 1 to 1024, not 0"),
        ({"alpha": 0.0}, "alpha must be positive, not 0"),
        ({"alpha": float("inf")}, "alpha must be positive, not inf"),
        ({"targets": ()}, "targets is empty; name modules, or use all"),
        ({"layers": "first-2"}, "layers must be 'all' or 'last-K' with K ≥ 1, not 'first-2'"),
        ({"layers": "last-0"}, "not 'last-0'"),
        ({"layers": "last--1"}, "not 'last--1'"),
        ({"layers": "last-²"}, "not 'last-²'"),
        ({"layers": "last-" + "9" * 5000}, "not 'last-999"),
        ({"lr": 0.0}, "lr must be positive, not 0"),
        ({"lr": float("inf")}, "lr must be positive, not inf"),
        ({"lr": float("nan")}, "lr must be positive, not nan"),
        ({"head_lr": -1.0}, "head-lr must be positive, not -1"),
        ({"weight_decay": -0.1}, "weight-decay must be 0 or more"),
        ({"warmup": 1.0}, "warmup must be at least 0 and below 1, a share of all steps, not 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_tokens": 15}, "batch-tokens must be at least 16"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"clip": -1.0}, "clip must be 0 or more"),
        ({"patience": -1}, "patience must be 0 or more"),
        ({"seed": -1}, "seed must be 0 to"),
        ({"seed": 2**63}, "seed must be 0 to"),
    ],
)
def test_a_setting_that_cannot_be_is_told(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainSettings(**settings)


@pytest.mark.parametrize(("steps", "epochs"), [(1, 20), (16, 20), (50, 10), (125, 4), (300, 3), (10**6, 3)])
def test_few_data_get_more_epochs(steps: int, epochs: int) -> None:
    assert TrainSettings().planned_epochs(steps) == epochs
    assert TrainSettings(epochs=7).planned_epochs(steps) == 7


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(UsageError, match=r"rank must be.*; epochs must be"):
        TrainSettings(rank=0, epochs=0)


@pytest.mark.parametrize(
    ("layers", "adapted"), [("all", range(6)), ("last-1", range(5, 6)), ("last-6", range(6))]
)
def test_layers_are_counted_from_the_last(layers: str, adapted: range) -> None:
    assert TrainSettings(layers=layers).adapted_layers(6) == adapted


def test_more_layers_than_the_backbone_has_are_refused() -> None:
    with pytest.raises(UsageError, match="'last-7', but the backbone has only 6 layers"):
        TrainSettings(layers="last-7").adapted_layers(6)


@pytest.mark.parametrize(
    ("targets", "adapted"),
    [(("all",), MODULES), (("value", "query"), ("query", "value")), (("output", "all"), MODULES)],
)
def test_modules_are_adapted_in_the_order_of_the_encoder(
    targets: tuple[str, ...], adapted: tuple[str, ...]
) -> None:
    assert TrainSettings(targets=targets).adapted_modules(MODULES) == adapted


def test_a_module_that_the_encoder_has_not_is_refused_with_those_it_has() -> None:
    with pytest.raises(UsageError, match="the backbone has no module 'query'; known: all, qkv, output"):
        TrainSettings(targets=("output", "query")).adapted_modules(("qkv", "output"))


@pytest.mark.parametrize("method", ["lora", "head", "full"])
def test_each_method_has_a_learning_rate_of_its_own(method: Any) -> None:
    settings = TrainSettings(method=method)
    assert settings.weight_lr == LEARNING_RATES[method]
    assert settings.top_lr >= settings.weight_lr
    assert TrainSettings(method=method, lr=0.5).weight_lr == 0.5
    assert TrainSettings(method=method, lr=0.5, head_lr=0.25).top_lr == 0.25


def test_what_is_recorded_is_json_with_every_choice_written_out() -> None:
    recorded = TrainSettings().to_json()
    assert json.loads(json.dumps(recorded)) == recorded
    assert recorded["targets"] == ["all"]
    assert (recorded["lr"], recorded["head_lr"]) == (LEARNING_RATES["lora"], HEAD_LEARNING_RATE)


@pytest.mark.parametrize(
    ("tokens", "batch"), [(100, 256), (16 * 256, 256), (16 * 300, 300), (16 * 512, 512), (10**7, 512)]
)
def test_few_data_are_cut_into_smaller_batches_unless_the_user_says_otherwise(
    tokens: int, batch: int
) -> None:
    assert TrainSettings().planned_tokens(tokens) == batch
    assert TrainSettings(batch_tokens=4096).planned_tokens(tokens) == 4096
