"""Points of a forward pass at which a thread can compute something else."""

from __future__ import annotations

import threading
from typing import Any

import torch

from onetrunk.core.trunk.build import trunk_of
from onetrunk.core.trunk.packing import pack
from onetrunk.core.trunk.preemption import preemptible


def test_each_product_of_each_layer_is_a_point_and_the_result_is_the_same(bert: Any) -> None:
    trunk, texts = trunk_of(bert), bert.encoder.encode(["good film", "word " * 100], [(), ()])
    packed, other = pack(texts, [0, 0]), pack(texts[:1], [0])
    points, nested = [0], []

    def count() -> None:
        points[0] += 1
        with preemptible(None):
            nested.append(trunk.forward(other, {}))

    with torch.inference_mode():
        expected = trunk.forward(packed, {})
        alone = trunk.forward(other, {})
        with preemptible(count):
            found = trunk.forward(packed, {})
    assert points == [4 * trunk.depth * len(packed.parts)]
    assert torch.equal(found, expected)
    assert all(torch.equal(each, alone) for each in nested)


def test_a_point_of_another_thread_calls_nothing(bert: Any) -> None:
    trunk, texts = trunk_of(bert), bert.encoder.encode(["good film"], [()])
    calls: list[int] = []
    with preemptible(lambda: calls.append(1)):
        thread = threading.Thread(target=lambda: trunk.forward(pack(texts, [0]), {}))
        thread.start()
        thread.join()
    assert calls == []
