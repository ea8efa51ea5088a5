"""Trainable adapters: initial weights and class weights."""

from __future__ import annotations

import pytest

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.trainable import TrainableAdapter, balanced_weights
from onetrunk.core.trunk.build import trunk_of


def test_class_weights_make_every_label_count_the_same() -> None:
    weights = balanced_weights([(0,), (0,), (0,), (2,), (-100,), (-1,)], 4)
    assert weights.tolist() == pytest.approx([1 / 3, 0, 1, 0])
    assert sum(float(weights[t]) for t in (0, 0, 0, 2)) == pytest.approx(2)


def test_balanced_weights_without_any_label_are_zero() -> None:
    assert balanced_weights([(-100,), (-100,)], 2).tolist() == [0.0, 0.0]


def test_a_trainable_adapter_starts_with_zero_updates_and_a_fresh_head(bert: Backbone) -> None:
    spec, settings = PluginHost.discover().task("sentiment"), TrainSettings(rank=4)
    trainable = TrainableAdapter(spec, ("a", "b"), bert, trunk_of(bert), settings)
    assert all(not own.b.any() for own in trainable.lora.updates.values())
    assert trainable.trained_parameters == sum(
        t.numel() for t in [*trainable.weights, *trainable.head.parameters()]
    )
