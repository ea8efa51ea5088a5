from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.adapters.methods.flat_layout import ALIGNMENT, flattened, layout_of
from onetrunk.adapters.methods.lora import Lora, LowRank, Patch, Update, patched_linear
from onetrunk.adapters.methods.target_modules import MODULES
from onetrunk.core.trunk.weights import Linear

CPU = torch.device("cpu")
WIDTH, WIDE = 12, 20
SHAPES = dict.fromkeys(MODULES, (WIDTH, WIDTH)) | {"intermediate": (WIDE, WIDTH), "output": (WIDTH, WIDE)}

targets = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(MODULES)), unique=True)
loras = st.builds(
    lambda chosen, ranks, scale: lora_of({t: ranks[i % len(ranks)] for i, t in enumerate(chosen)}, scale),
    targets,
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.sampled_from([0.3, 1.0, 2.0, 7.1]),
)


def lora_of(ranks: dict[tuple[int, str], int], scale: float, seed: int = 0) -> Lora:
    generator = torch.Generator().manual_seed(seed)
    updates = {}
    for (layer, module), rank in ranks.items():
        d_out, d_in = SHAPES[module]
        a, b = torch.randn(rank, d_in, generator=generator), torch.randn(d_out, rank, generator=generator)
        updates[layer, module] = LowRank(a, b, scale)
    return Lora(updates)


def flat_of(lora: Lora) -> torch.Tensor:
    assert lora.flat is not None
    return lora.flat


@given(loras)
def test_every_update_is_what_it_was_with_the_scale_in_b(lora: Lora) -> None:
    found = flattened(lora, CPU, torch.float32)
    assert found.updates.keys() == lora.updates.keys()
    for target, own in lora.updates.items():
        assert torch.equal(found.updates[target].a, own.a)
        assert torch.equal(found.updates[target].b, own.b * own.scale)
        assert found.updates[target].scale == 1.0


@given(loras)
def test_every_factor_is_a_view_and_no_two_overlap(lora: Lora) -> None:
    found = flattened(lora, CPU, torch.float32)
    flat = flat_of(found)
    spans = sorted((factor.storage_offset(), factor.numel()) for factor in found.parameters)
    assert all(
        factor.untyped_storage().data_ptr() == flat.untyped_storage().data_ptr()
        for factor in found.parameters
    )
    assert all(start + size <= after for (start, size), (after, _) in pairwise(spans))
    assert all(start + size <= flat.numel() for start, size in spans)
    covered = torch.ones_like(flat, dtype=torch.bool)
    for start, size in spans:
        covered[start : start + size] = False
    assert not flat[covered].any()


@given(loras)
def test_factors_of_one_input_lie_end_to_end_and_all_others_begin_aligned(lora: Lora) -> None:
    updates = flattened(lora, CPU, torch.float32).updates
    for (layer, module), own in updates.items():
        before = [updates.get((layer, m)) for m in ("query", "key", "value")[: MODULES.index(module)]]
        same_input = [each for each in before if each is not None] if module in ("key", "value") else []
        if same_input:
            assert own.a.storage_offset() == same_input[-1].a.storage_offset() + same_input[-1].a.numel()
        else:
            assert own.a.storage_offset() % ALIGNMENT == 0
        assert own.b.storage_offset() % ALIGNMENT == 0


@given(loras)
def test_one_shape_has_one_layout_in_whatever_order_the_targets_come(lora: Lora) -> None:
    assert layout_of(lora) == layout_of(Lora(dict(reversed(list(lora.updates.items())))))
    assert layout_of(lora) == layout_of(flattened(lora, CPU, torch.float32))


def test_stacked_adapters_of_one_shape_are_stacks_of_their_factors() -> None:
    ranks = {(layer, module): 4 for layer in (0, 2) for module in ("query", "value", "output")}
    own = [flattened(lora_of(ranks, 0.5, seed), CPU, torch.float32) for seed in range(3)]
    stack = torch.stack([flat_of(each) for each in own])
    for block in layout_of(own[0]).blocks:
        size = block.rank * block.d_in
        viewed = stack[:, block.a : block.a + size].view(3, block.rank, block.d_in)
        assert torch.equal(viewed, torch.stack([each.updates[block.target].a for each in own]))


@pytest.mark.parametrize(
    "modules", [("query",), ("query", "value"), ("key", "value"), ("query", "key", "value")]
)
def test_a_product_with_it_has_the_bits_of_a_product_with_factors_that_stand_apart(
    modules: tuple[str, ...],
) -> None:
    generator = torch.Generator().manual_seed(1)
    x, weight = torch.randn(9, WIDTH, generator=generator), torch.randn(3 * WIDTH, WIDTH, generator=generator)
    apart = lora_of({(0, module): 3 for module in modules}, 0.5)  # a power of two scales without rounding
    found = []
    for lora in (apart, flattened(apart, CPU, torch.float32)):
        parts = tuple((i * WIDTH, lora.updates[0, module]) for i, module in enumerate(modules))
        found.append(patched_linear(x, Linear(weight, torch.zeros(3 * WIDTH)), [Patch(2, 7, Update(parts))]))
    assert torch.equal(*found)


def query_of(lora: Lora) -> Update:
    return Update(((0, lora.updates[0, "query"]),))


def test_parts_that_are_not_neighbours_are_not_taken_for_one_block() -> None:
    """The value's factor follows the key's, not the query's: a view over both would read the key's."""
    lora = flattened(
        lora_of({(0, module): 3 for module in ("query", "key", "value")}, 1.0), CPU, torch.float32
    )
    x, weight = torch.eye(WIDTH), torch.zeros(2 * WIDTH, WIDTH)
    parts = ((0, lora.updates[0, "query"]), (WIDTH, lora.updates[0, "value"]))
    found = patched_linear(x, Linear(weight, torch.zeros(2 * WIDTH)), [Patch(0, WIDTH, Update(parts))])
    expected = torch.cat([(own.b @ own.a).T for _, own in parts], dim=1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0, 7.1])
def test_a_folded_scale_changes_a_product_by_less_than_a_millionth(scale: float) -> None:
    generator = torch.Generator().manual_seed(1)
    x, weight = torch.randn(40, WIDTH, generator=generator), torch.randn(WIDTH, WIDTH, generator=generator)
    apart = lora_of({(0, "query"): 4}, scale)
    plain, folded = (
        patched_linear(
            x, Linear(weight, torch.zeros(WIDTH)), [Patch(0, 40, Update(((0, lora.updates[0, "query"]),)))]
        )
        for lora in (apart, flattened(apart, CPU, torch.float32))
    )
    assert float((plain - folded).norm() / plain.norm()) < 1e-6


def test_the_scale_is_folded_before_the_cast() -> None:
    lora = lora_of({(0, "query"): 4}, 0.3)
    own = lora.updates[0, "query"]
    half = flattened(lora, CPU, torch.bfloat16)
    assert torch.equal(half.updates[0, "query"].b, (own.b * 0.3).bfloat16())
    assert torch.equal(flat_of(half), flat_of(flattened(lora, CPU, torch.float32)).bfloat16())


def test_what_is_laid_out_already_stays_as_it_is_and_is_cast_as_a_whole() -> None:
    lora = flattened(lora_of({(0, "query"): 4}, 0.3), CPU, torch.float32)
    assert flattened(lora, CPU, torch.float32) is lora
    half = flattened(lora, CPU, torch.bfloat16)
    assert torch.equal(half.updates[0, "query"].b, lora.updates[0, "query"].b.bfloat16())


def test_trainable_factors_are_copied_without_their_graph() -> None:
    lora = lora_of({(0, "query"): 4}, 0.3)
    for factor in lora.parameters:
        factor.requires_grad_()
    assert not flat_of(flattened(lora, CPU, torch.float32)).requires_grad


def test_nothing_adapted_is_an_empty_tensor() -> None:
    assert flat_of(flattened(Lora({}), CPU, torch.float32)).numel() == 0


def test_modules_of_other_encoders_are_laid_out_too() -> None:
    updates = {
        (0, name): LowRank(torch.rand(2, 3), torch.rand(5, 2), 0.5) for name in ("qkv", "output", "Wi")
    }
    laid = flattened(Lora(updates), torch.device("cpu"), torch.float32)
    for target, own in laid.updates.items():
        given = updates[target]
        assert torch.equal(own.a, given.a)
        assert torch.equal(own.b * own.scale, given.b * given.scale)
    assert set(laid.updates) == set(updates)
