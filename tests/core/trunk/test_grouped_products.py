from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from onetrunk.adapters.methods.flat_layout import flattened
from onetrunk.adapters.methods.lora import Lora, LowRank
from onetrunk.core.trunk.lora_application import Patches, Stack
from onetrunk.core.trunk.packing import Segment
from onetrunk.core.trunk.weights import Linear

CPU = torch.device("cpu")
WIDTH = 16
STOPS = (3, 4, 9, 20)


def adapter(seed: int, modules: Sequence[str] = ("query", "key", "value"), rank: int = 8) -> Lora:
    generator = torch.Generator().manual_seed(seed)
    updates = {
        (0, module): LowRank(
            torch.randn(rank, WIDTH, generator=generator),
            torch.randn(WIDTH, rank, generator=generator),
            0.5 + seed,
        )
        for module in modules
    }
    return flattened(Lora(updates), CPU, torch.float32)


def stack_of(loras: Sequence[Lora | None]) -> Stack | None:
    return Stack.of(loras, torch.tensor(STOPS[: len(loras)], dtype=torch.int32))


@pytest.mark.parametrize("modules", [("query",), ("query", "value"), ("query", "key", "value")])
@pytest.mark.parametrize("without", [None, 0, 2, 3])
def test_grouped_products_equal_products_run_by_run(modules: tuple[str, ...], without: int | None) -> None:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(STOPS[-1], WIDTH, generator=generator)
    linear = Linear(torch.randn(3 * WIDTH, WIDTH, generator=generator), torch.randn(3 * WIDTH))
    loras = [None if i == without else adapter(i, modules) for i in range(len(STOPS))]
    segments = tuple(Segment(*bounds, i) for i, bounds in enumerate(zip((0, *STOPS), STOPS, strict=False)))
    adapters = {i: lora for i, lora in enumerate(loras) if lora is not None}
    asked = (x, linear, 0, ("query", "key", "value"), WIDTH)
    stack = stack_of(loras)
    assert stack is not None
    with torch.inference_mode():
        torch.testing.assert_close(stack(*asked), Patches(segments, adapters, None)(*asked))


def test_a_product_that_no_adapter_changes_is_the_frozen_one() -> None:
    stack = stack_of([adapter(0), adapter(1)])
    assert stack is not None
    x, linear = torch.ones(4, WIDTH), Linear(torch.ones(WIDTH, WIDTH), torch.zeros(WIDTH))
    assert torch.equal(stack(x, linear, 1, ("query",), WIDTH), linear(x))
    assert torch.equal(stack(x, linear, 0, ("output",), WIDTH), linear(x))


@pytest.mark.parametrize(
    "other",
    [
        adapter(1, rank=16),
        adapter(1, ("query", "value")),
        Lora(dict(adapter(1).updates)),
    ],
    ids=["rank", "modules", "not laid out"],
)
def test_adapters_that_are_not_alike_are_not_stacked(other: Lora) -> None:
    assert stack_of([adapter(0), adapter(1)]) is not None
    assert stack_of([adapter(0), other]) is None


def test_a_rank_that_kernels_cannot_read_is_not_stacked() -> None:
    assert stack_of([adapter(0, rank=3), adapter(1, rank=3)]) is None


def test_a_batch_without_adapters_is_not_stacked() -> None:
    assert stack_of([None, None]) is None
