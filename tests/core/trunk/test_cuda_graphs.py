"""The buckets of CUDA graphs; what records one is a call of the pass here, which needs no GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from onetrunk.adapters.methods.flat_layout import flattened
from onetrunk.adapters.methods.lora import Lora
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.trunk.cuda_graphs import KEPT, MOST_RUNS, TOKENS, Graphs
from onetrunk.core.trunk.packed import PackedTrunk
from onetrunk.core.trunk.packing import Packed, pack
from tests.core.trunk.test_gpu import adapter
from tests.core.trunk.trunks import packed_trunk

CPU = torch.device("cpu")
Texts = Callable[[int], list[str]]


class Recorder:
    """Counts what is recorded, and repeats it by calling it again."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.count += 1
        compute()
        return compute


def graphs_of(trunk: PackedTrunk, record: Callable[..., Callable[[], Tensor]]) -> Graphs:
    return Graphs(trunk._run_whole, CPU, torch.float32, record)


def packed_of(backbone: Backbone, texts: Sequence[str], slots: Sequence[int]) -> Packed:
    return pack(backbone.encoder.encode(texts, [()] * len(texts)), slots)


def laid_out(backbone: Backbone, seed: int, rank: int = 8) -> Lora:
    return flattened(adapter(backbone, seed, rank), CPU, torch.float32)


def test_a_batch_in_a_bucket_has_the_states_of_the_batch(bert: Backbone, some_texts: Texts) -> None:
    """Batches of all sizes follow each other in the same places: none leaves anything behind."""
    trunk, recorder = packed_trunk(bert, torch.float32), Recorder()
    graphs = graphs_of(trunk, recorder)
    loras = {slot: laid_out(bert, slot) for slot in range(3)}
    for count in (9, 2, 4, 9, 3):
        packed = packed_of(bert, some_texts(count), [i % 4 for i in range(count)])  # slot 3 has no adapter
        found = graphs.run(packed.parts[0], loras)
        with torch.inference_mode():
            expected = trunk.run(trunk.embed(packed), packed, loras)
        assert found is not None
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_head_alone_leaves_the_others_their_graph(bert: Backbone) -> None:
    trunk, recorder = packed_trunk(bert, torch.float32), Recorder()
    packed = packed_of(bert, ["good", "bad"], [0, 1])
    loras = {0: laid_out(bert, 0), 1: flattened(Lora({}), CPU, torch.float32)}
    found = graphs_of(trunk, recorder).run(packed.parts[0], loras)
    with torch.inference_mode():
        expected = trunk.run(trunk.embed(packed), packed, loras)
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_states_of_a_graph_can_be_trained_on(bert: Backbone) -> None:
    found = graphs_of(packed_trunk(bert, torch.float32), Recorder()).run(
        packed_of(bert, ["good"], [0]).parts[0], {}
    )
    assert found is not None
    assert not found.is_inference()


def test_a_trunk_has_graphs_where_the_kernels_for_them_are(bert: Backbone) -> None:
    trunk = packed_trunk(bert, torch.float32)
    assert trunk.with_graphs() is trunk  # a CPU has none


def test_batches_of_one_bucket_share_a_graph(bert: Backbone) -> None:
    recorder = Recorder()
    graphs = graphs_of(packed_trunk(bert, torch.float32), recorder)
    for text in ("good", "good film", "a very good film"):
        assert graphs.run(packed_of(bert, [text], [0]).parts[0], {0: laid_out(bert, len(text))}) is not None
    assert recorder.count == 1


def test_the_states_of_a_batch_are_not_overwritten_by_the_next(bert: Backbone) -> None:
    graphs = graphs_of(packed_trunk(bert, torch.float32), Recorder())
    first = graphs.run(packed_of(bert, ["good"], [0]).parts[0], {})
    assert first is not None
    before = first.clone()
    graphs.run(packed_of(bert, ["bad"], [0]).parts[0], {})
    assert torch.equal(first, before)


@pytest.mark.parametrize(
    ("texts", "ranks"),
    [
        (["good " * (TOKENS[-1] + 1)] * 9, (8,)),
        (["good"] * (MOST_RUNS + 1), (8,)),
        (["good", "bad"], (8, 16)),
    ],
    ids=["tokens", "sequences", "adapters that are not alike"],
)
def test_a_batch_that_no_graph_is_for_is_left_to_the_trunk(
    bert: Backbone, texts: list[str], ranks: tuple[int, ...]
) -> None:
    loras = {slot: laid_out(bert, slot, rank) for slot, rank in enumerate(ranks)}
    packed = packed_of(bert, texts, [i % len(ranks) for i in range(len(texts))])
    recorder = Recorder()
    assert graphs_of(packed_trunk(bert, torch.float32), recorder).run(packed.parts[0], loras) is None
    assert recorder.count == 0


def test_graphs_that_cannot_be_recorded_are_said_once_and_left(
    bert: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise RuntimeError("not permitted while capturing")

    graphs = graphs_of(packed_trunk(bert, torch.float32), fail)
    part = packed_of(bert, ["good"], [0]).parts[0]
    assert graphs.run(part, {}) is None
    assert graphs.run(part, {}) is None
    assert [record.message for record in caplog.records] == [
        "no CUDA graph could be recorded; small batches run without graphs: not permitted while capturing"
    ]


@pytest.mark.parametrize("known", [False, True], ids=["a new graph", "a known graph"])
def test_a_batch_that_cannot_be_copied_is_an_error_and_leaves_the_graphs_on(
    bert: Backbone, known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    graphs = graphs_of(packed_trunk(bert, torch.float32), Recorder())
    part = packed_of(bert, ["good"], [0]).parts[0]
    if known:
        assert graphs.run(part, {}) is not None
    with pytest.raises(NotImplementedError, match="out of meta tensor"):
        graphs.run(replace(part, ids=part.ids.to("meta")), {})
    assert graphs.run(part, {}) is not None
    assert not caplog.records


def test_the_oldest_graph_makes_room(bert: Backbone) -> None:
    recorder = Recorder()
    graphs = graphs_of(packed_trunk(bert, torch.float32), recorder)
    parts = [packed_of(bert, ["good"], [0]).parts[0]] * (KEPT + 1)
    for rank, part in enumerate(parts, 1):
        graphs.run(part, {0: laid_out(bert, 0, 4 * rank)})
    assert recorder.count == KEPT + 1
    graphs.run(parts[0], {0: laid_out(bert, 0, 4)})
    assert recorder.count == KEPT + 2
