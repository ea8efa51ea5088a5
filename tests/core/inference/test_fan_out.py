"""One text, many adapters: what lies below their layers is computed once, and the answers stay the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from onetrunk.adapters.methods.lora import Lora, LowRank, init_lora
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.families import sizes_of
from onetrunk.core.inference.adapter import Adapter, build_head
from onetrunk.core.inference.logits import LogitsRequest, compute_logits
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.build import trunk_of
from onetrunk.core.trunk.packed import PackedTrunk
from onetrunk.core.trunk.packing import pack
from onetrunk.core.trunk.weights import Linear
from tests.core.trunk.trunks import packed_trunk

Texts = Callable[[int], list[str]]


def random_adapter(backbone: Backbone, trunk: Trunk, task: str, first: int | None, seed: int) -> Adapter:
    """Return an adapter of random weights that changes the layers from `first` on; None: a head alone."""
    generator = torch.Generator().manual_seed(seed)
    shapes = backbone.linear_shapes
    chosen = {t: s for t, s in shapes.items() if first is not None and t[0] >= first}
    fresh = init_lora(chosen, 4, 8.0, generator)
    updates = {
        t: LowRank(u.a, torch.randn(u.b.shape, generator=generator), u.scale)
        for t, u in fresh.updates.items()
    }
    spec = PluginHost.discover().task(task)
    labels = ("O", "B-X", "I-X") if task == "ner" else ("a", "b")
    torch.manual_seed(seed)
    head = build_head(spec, backbone, labels, "mean").eval()
    return Adapter(task, spec, labels, "mean", Lora(updates).to(trunk.device, trunk.dtype), head, {})


class CountingTrunk(PackedTrunk):
    """A trunk that counts the rows which each layer computes."""

    rows: list[int]

    def _run_layer(self, index: int, hidden: Tensor, *rest: object) -> Tensor:
        self.rows[index] += len(hidden)
        return super()._run_layer(index, hidden, *rest)  # type: ignore[arg-type]


def counting(backbone: Backbone) -> CountingTrunk:
    plain = packed_trunk(backbone)
    trunk = CountingTrunk(plain.embeddings, plain.layers, sizes_of(backbone.family, backbone.config))
    trunk.rows = [0] * trunk.depth
    return trunk


def jobs_of(backbone: Backbone, adapters: list[Adapter], texts: list[str]) -> list[LogitsRequest]:
    encoder = backbone.encoder
    tokens = encoder.tokenise(texts)
    return [
        LogitsRequest(encoder.arrange(own, adapter.spec.unlabelled(text).words), slot)
        for slot, adapter in enumerate(adapters)
        for own, text in zip(tokens, texts, strict=True)
    ]


@pytest.mark.parametrize("firsts", [(1, 1, 1), (None, None), (0, 1, None), (1, 0, 1, None), (0, 0), (1,)])
def test_shared_layers_give_the_logits_of_each_job_alone(
    firsts: tuple[int | None, ...], backbone: Backbone, some_texts: Texts
) -> None:
    trunk, tasks = trunk_of(backbone), ("ner", "sentiment")
    adapters = [random_adapter(backbone, trunk, tasks[i % 2], first, i) for i, first in enumerate(firsts)]
    jobs = jobs_of(backbone, adapters, [*some_texts(12), "good " * 300])
    found = compute_logits(trunk, adapters, jobs, batch_tokens=512)
    for job, logits in zip(jobs, found, strict=True):
        (alone,) = compute_logits(trunk, adapters, [job])
        np.testing.assert_allclose(logits, alone, rtol=0, atol=1e-4)


def test_layers_below_the_first_adapted_one_run_once_a_text(bert: Backbone, some_texts: Texts) -> None:
    trunk = counting(bert)
    adapters = [random_adapter(bert, trunk, "sentiment", 1, seed) for seed in range(5)]
    jobs = jobs_of(bert, adapters, some_texts(10))
    compute_logits(trunk, adapters, jobs, batch_tokens=10_000)
    tokens = sum(job.encoded.tokens for job in jobs)
    assert trunk.rows == [tokens // 5, tokens]


class CountingLinear(Linear):
    """A product that counts the rows which it is given."""

    rows: ClassVar[int] = 0

    def __call__(self, x: Tensor) -> Tensor:
        CountingLinear.rows += len(x)
        return super().__call__(x)


def test_the_first_product_of_an_adapted_layer_is_computed_once_a_text(
    bert: Backbone, some_texts: Texts
) -> None:
    plain = packed_trunk(bert)
    below, top = plain.layers
    assert isinstance(top.qkv, Linear)
    top = replace(top, qkv=CountingLinear(top.qkv.weight, top.qkv.bias))
    trunk = PackedTrunk(plain.embeddings, [below, top], sizes_of(bert.family, bert.config))
    adapters = [random_adapter(bert, trunk, "sentiment", 1, seed) for seed in range(5)]
    jobs = jobs_of(bert, adapters, some_texts(10))
    compute_logits(trunk, adapters, jobs, batch_tokens=10_000)
    assert CountingLinear.rows == sum(job.encoded.tokens for job in jobs) // 5


def test_rows_that_share_states_train_as_rows_of_their_own(bert: Backbone, some_texts: Texts) -> None:
    trunk = trunk_of(bert)
    loras = {slot: random_adapter(bert, trunk, "sentiment", 0, slot).lora for slot in range(3)}
    factors = [factor.requires_grad_() for lora in loras.values() for factor in lora.parameters]
    texts = bert.encoder.encode(some_texts(4), [()] * 4)
    states = torch.randn(sum(text.tokens for text in texts), trunk.width).requires_grad_()
    packed = pack(texts * 3, [slot for slot in range(3) for _ in texts])
    source = torch.arange(len(states)).repeat(3)[packed.source]
    found = []
    for entering, rows in ((states, source), (states[source], None)):
        hidden = trunk.run(entering, packed, loras, source=rows)
        found.append([hidden, *torch.autograd.grad(hidden.sin().sum(), [states, *factors])])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


def test_heads_without_updates_share_the_whole_trunk(bert: Backbone) -> None:
    trunk = counting(bert)
    adapters = [random_adapter(bert, trunk, "sentiment", None, seed) for seed in range(3)]
    jobs = jobs_of(bert, adapters, ["good film", "bad"])
    compute_logits(trunk, adapters, jobs)
    tokens = sum(job.encoded.tokens for job in jobs)
    assert trunk.rows == [tokens // 3, tokens // 3]
