"""What runs by other kernels on a GPU has the results of a CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from onetrunk.adapters.methods.flat_layout import flattened
from onetrunk.adapters.methods.lora import Lora, LowRank, init_lora
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.kernels import has_grouped_products
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.build import trunk_of
from onetrunk.core.trunk.lora_application import Patches, Stack, updates_of
from onetrunk.core.trunk.packing import Packed, pack
from tests.core.trunk.trunks import packed_trunk

pytestmark = pytest.mark.gpu
Texts = Callable[[int], list[str]]
COUNT = 24


def adapter(backbone: Backbone, seed: int, rank: int = 8) -> Lora:
    generator = torch.Generator().manual_seed(seed)
    fresh = init_lora(backbone.linear_shapes, rank, 16.0, generator)
    return Lora(
        {
            target: LowRank(own.a, 0.05 * torch.randn(own.b.shape, generator=generator), own.scale)
            for target, own in fresh.updates.items()
        }
    )


def packed_of(backbone: Backbone, texts: list[str], slots: list[int], device: torch.device) -> Packed:
    return pack(backbone.encoder.encode(texts, [()] * len(texts)), slots, device=device)


def states(trunk: Trunk, packed: Packed, loras: dict[int, Lora]) -> Tensor:
    here = {slot: flattened(lora, trunk.device, trunk.dtype) for slot, lora in loras.items()}
    with torch.inference_mode():
        return trunk.forward(packed, here).float().cpu()


def on_gpu(backbone: Backbone) -> Backbone:
    return replace(backbone, device=torch.device("cuda"))


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-4), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("ranks", [(8, 8, 8), (8, 16, 4)], ids=["alike", "mixed ranks"])
def test_a_mixed_batch_has_the_states_of_the_cpu(
    bert: Backbone, some_texts: Texts, dtype: torch.dtype, limit: float, ranks: tuple[int, ...]
) -> None:
    loras = {slot: adapter(bert, slot, rank) for slot, rank in enumerate(ranks)}
    texts, slots = some_texts(COUNT), [i % 4 for i in range(COUNT)]  # the last slot has no adapter
    expected, found = (
        states(trunk, packed_of(bert, texts, slots, trunk.device), loras)
        for trunk in (trunk_of(bert, torch.float32), trunk_of(on_gpu(bert), dtype))
    )
    assert relative(found, expected) < limit


def test_adapters_alike_are_one_grouped_product_in_bf16(bert: Backbone, some_texts: Texts) -> None:
    trunk = trunk_of(on_gpu(bert), torch.bfloat16)
    packed = packed_of(bert, some_texts(4), [0, 1, 2, 3], trunk.device)
    here = {i: flattened(adapter(bert, i), trunk.device, trunk.dtype) for i in range(4)}
    hidden = torch.zeros(packed.tokens, trunk.width, device=trunk.device, dtype=trunk.dtype)
    with torch.inference_mode():
        found = updates_of(packed.parts[0].segments, here, hidden, None)
    assert isinstance(found, Stack if has_grouped_products(trunk.device, trunk.dtype) else Patches)


def test_a_mixed_batch_equals_each_text_alone(bert: Backbone, some_texts: Texts) -> None:
    trunk, texts = trunk_of(on_gpu(bert), torch.bfloat16), some_texts(COUNT)
    loras = {slot: adapter(bert, slot) for slot in range(4)}
    slots = [i % 4 for i in range(COUNT)]
    mixed = states(trunk, packed_of(bert, texts, slots, trunk.device), loras)
    alone = [
        states(trunk, packed_of(bert, [text], [slot], trunk.device), loras)
        for text, slot in zip(texts, slots, strict=True)
    ]
    assert relative(mixed, torch.cat(alone)) < 0.01


def test_gradients_on_a_gpu_are_those_of_the_cpu(bert: Backbone, some_texts: Texts) -> None:
    texts, found = some_texts(6), []
    for backbone in (bert, on_gpu(bert)):
        lora, trunk = adapter(bert, 0), trunk_of(backbone, torch.float32)
        for factor in lora.parameters:
            factor.requires_grad_()
        here = lora.to(trunk.device, trunk.dtype)
        packed = packed_of(bert, texts, [0] * 6, trunk.device)
        trunk.forward(packed, {0: here}).sin().sum().backward()
        found.append(
            torch.cat([factor.grad.flatten() for factor in lora.parameters if factor.grad is not None])
        )
    assert relative(found[1], found[0]) < 1e-3


def test_a_small_batch_is_a_graph_with_the_states_of_the_trunk(bert: Backbone, some_texts: Texts) -> None:
    trunk = packed_trunk(on_gpu(bert), torch.bfloat16).with_graphs()
    here = {i: flattened(adapter(bert, i), trunk.device, trunk.dtype) for i in range(3)}
    if trunk._graphs is None:
        pytest.skip("this GPU has no kernels for grouped products")
    for count in (6, 2, 4):
        packed = packed_of(bert, some_texts(count), [i % 3 for i in range(count)], trunk.device)
        with torch.inference_mode():
            found = trunk._graphs.run(packed.parts[0], here)
            expected = trunk.run(trunk.embed(packed), packed, here)
        assert found is not None
        assert relative(found.float().cpu(), expected.float().cpu()) < 0.01
