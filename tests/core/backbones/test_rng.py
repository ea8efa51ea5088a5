"""Each run draws its own random numbers, whatever happens on other threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from onetrunk.core.backbones.backbone import Backbone, fingerprint
from onetrunk.core.backbones.rng import Randomness, global_generators
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Record
from onetrunk.core.testing import TinyShape, tiny_backbone
from onetrunk.core.training.encoded_dataset import encode_dataset
from onetrunk.core.training.loop import train_together
from onetrunk.core.training.run_state import TrainingRun, planned
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.trainable import TrainableAdapter
from onetrunk.core.trunk.build import trunk_of

CPU = torch.device("cpu")
SETTINGS = TrainSettings(epochs=6, lr=0.01, rank=4, batch_tokens=32, patience=0, dropout=0.2)


@pytest.fixture
def train(bert: Backbone, records: dict[str, list[Record]]) -> Callable[[int], str]:
    """Return (seed) → the fingerprint of what a run with this seed learns."""
    spec, trunk = PluginHost.discover().task("sentiment"), trunk_of(bert)
    examples = [spec.read(record) for record in records["sentiment"]]
    dataset = encode_dataset(spec, bert, examples, ("neg", "pos"))

    def run(seed: int) -> str:
        settings = planned(replace(SETTINGS, seed=seed), dataset)
        alone = TrainingRun(
            "x", TrainableAdapter(spec, ("neg", "pos"), bert, trunk, settings), dataset, dataset
        )
        (ended,) = train_together([alone], trunk)
        trainable = ended.result().trainable
        weights = {str(i): weight for i, weight in enumerate(trainable.weights)}
        return fingerprint({**weights, **trainable.head.state_dict()})

    return run


def test_runs_on_several_threads_learn_what_they_learn_alone(train: Callable[[int], str]) -> None:
    seeds = range(4)
    alone = [train(seed) for seed in seeds]
    with ThreadPoolExecutor(len(seeds)) as pool:
        assert list(pool.map(train, seeds)) == alone


def test_a_run_beside_models_that_are_built_learns_what_it_learns_alone(
    train: Callable[[int], str], tmp_path: Path
) -> None:
    alone, ended = train(0), threading.Event()

    def build() -> int:
        count = 0
        while not ended.is_set():
            tiny_backbone(tmp_path / str(count), shape=TinyShape(layers=1))
            count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        built = pool.submit(build)
        try:
            learnt = train(0)
        finally:
            ended.set()
    assert learnt == alone
    assert built.result() > 0


def test_what_a_head_draws_goes_on_where_the_run_was() -> None:
    apart, together = Randomness(3, CPU), torch.Generator().manual_seed(3)
    with apart.as_global():
        drawn = torch.rand(5)
    assert torch.equal(
        torch.cat([drawn, torch.rand(5, generator=apart.host)]), torch.rand(10, generator=together)
    )


def test_global_generators_are_left_as_they_were() -> None:
    before = torch.get_rng_state()
    with global_generators(seed=1):
        first = torch.rand(3)
    with global_generators(seed=1):
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.get_rng_state(), before)
