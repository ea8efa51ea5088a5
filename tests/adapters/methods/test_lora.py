from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import pytest
import torch
from torch import Tensor

from onetrunk.adapters.methods.lora import Lora, LowRank, Patch, Update, init_lora, patched_linear
from onetrunk.core.trunk.weights import Linear

D_IN, D_OUT = 12, 18
CPU = torch.device("cpu")
Slots = Callable[[int, int], list[int]]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator, dtype=dtype)


def update(rank: int, d_out: int, seed: int, dtype: torch.dtype = torch.float64) -> LowRank:
    return LowRank(
        draw(rank, D_IN, seed=seed, dtype=dtype), draw(d_out, rank, seed=seed + 99, dtype=dtype), 0.5 + seed
    )


def parts_of(adapter: int) -> tuple[tuple[int, LowRank], ...]:
    """Adapters of three shapes: the whole width, two of three columns, and nothing."""
    rank = (4, 8, 16)[adapter % 3]
    third = D_OUT // 3
    if adapter % 3 == 0:
        return ((0, update(rank, D_OUT, adapter)),)
    return ((0, update(rank, third, adapter)), (2 * third, update(4, third, adapter + 1)))


def patches_of(slots: Sequence[int]) -> list[Patch]:
    patches, start = [], 0
    for slot, group in groupby(sorted(slots)):
        stop = start + len(list(group))
        if slot != 1:  # one adapter of the mix leaves this product alone
            patches.append(Patch(start, stop, Update(parts_of(slot))))
        start = stop
    return patches


def reference(x: Tensor, weight: Tensor, bias: Tensor, patches: Sequence[Patch], mask: Tensor) -> Tensor:
    rows = []
    for i, row in enumerate(x):
        y = weight @ row + bias
        for patch in patches:
            for column, own in patch.update.parts if patch.start <= i < patch.stop else ():
                step = own.scale * (own.b @ (own.a @ (row * mask[i])))
                y = y + torch.cat([step.new_zeros(column), step, step.new_zeros(len(y) - column - len(step))])
        rows.append(y)
    return torch.stack(rows)


@pytest.mark.parametrize("masked", [False, True])
def test_a_patched_product_equals_a_loop_over_rows(slots: Slots, masked: bool) -> None:
    x, weight, bias, patches = draw(40, D_IN), draw(D_OUT, D_IN), draw(D_OUT), patches_of(slots(40, 12))
    mask = (draw(40, D_IN, seed=5) > 0).double() * 2 if masked else None
    found = patched_linear(x, Linear(weight, bias), patches, mask)
    expected = reference(x, weight, bias, patches, torch.ones_like(x) if mask is None else mask)
    torch.testing.assert_close(found, expected)


def test_gradients_equal_those_of_a_loop_over_rows(slots: Slots) -> None:
    weight, bias, patches = draw(D_OUT, D_IN), draw(D_OUT), patches_of(slots(30, 12))
    mask = (draw(30, D_IN, seed=5) > 0).double() * 2
    factors = [f for patch in patches for _, own in patch.update.parts for f in (own.a, own.b)]
    wanted = [draw(30, D_IN).requires_grad_(), *(factor.requires_grad_() for factor in factors)]
    found = torch.autograd.grad(
        patched_linear(wanted[0], Linear(weight, bias), patches, mask).sin().sum(), wanted
    )
    expected = torch.autograd.grad(reference(wanted[0], weight, bias, patches, mask).sin().sum(), wanted)
    for own, right in zip(found, expected, strict=True):
        torch.testing.assert_close(own, right)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("needs_x", [False, True])
def test_gradients_pass_gradcheck(masked: bool, needs_x: bool) -> None:
    weight, bias = draw(6, D_IN), draw(6)
    mask = (draw(7, D_IN, seed=5) > 0).double() * 2 if masked else None

    def product(x: Tensor, *factors: Tensor) -> Tensor:
        low = [
            LowRank(a, b, scale)
            for a, b, scale in zip(factors[::2], factors[1::2], (0.5, 2.0, 1.0), strict=True)
        ]
        patches = [Patch(0, 3, Update(((0, low[0]), (4, low[1])))), Patch(5, 7, Update(((1, low[2]),)))]
        return patched_linear(x, Linear(weight, bias), patches, mask)

    shapes = [(2, D_IN), (3, 2), (4, D_IN), (2, 4), (1, D_IN), (5, 1)]
    factors = [draw(*shape, seed=i).requires_grad_() for i, shape in enumerate(shapes)]
    assert torch.autograd.gradcheck(product, (draw(7, D_IN).requires_grad_(needs_x), *factors))


def test_the_frozen_weight_gets_no_gradient() -> None:
    weight, bias = draw(D_OUT, D_IN), draw(D_OUT)
    x = draw(4, D_IN).requires_grad_()
    patched_linear(x, Linear(weight, bias), [Patch(0, 4, Update(parts_of(0)))]).sum().backward()
    assert weight.grad is None
    assert bias.grad is None


def test_a_zero_b_changes_no_bit() -> None:
    x, weight, bias = (draw(*s, dtype=torch.float32) for s in ((9, D_IN), (D_OUT, D_IN), (D_OUT,)))
    fresh = init_lora({(0, "query"): (D_OUT, D_IN)}, rank=4, alpha=8.0).updates[0, "query"]
    patched = patched_linear(x, Linear(weight, bias), [Patch(0, 9, Update(((0, fresh),)))])
    assert torch.equal(patched, patched_linear(x, Linear(weight, bias), []))


def test_rows_without_a_patch_keep_every_bit() -> None:
    x, weight, bias = draw(9, D_IN), draw(D_OUT, D_IN), draw(D_OUT)
    patched = patched_linear(x, Linear(weight, bias), [Patch(3, 5, Update(parts_of(1)))])
    plain = patched_linear(x, Linear(weight, bias), [])
    assert torch.equal(patched[:3], plain[:3])
    assert torch.equal(patched[5:], plain[5:])


def test_the_input_is_left_as_it_was() -> None:
    x = draw(9, D_IN)
    before = x.clone()
    patched_linear(x, Linear(draw(D_OUT, D_IN), draw(D_OUT)), [Patch(0, 9, Update(parts_of(0)))])
    assert torch.equal(x, before)


def in_bf16(update: LowRank) -> LowRank:
    return LowRank(update.a.bfloat16(), update.b.bfloat16(), update.scale)


def test_bf16_is_within_two_percent() -> None:
    x, weight, bias, patches = draw(30, D_IN), draw(D_OUT, D_IN), draw(D_OUT), patches_of([0] * 10 + [2] * 20)
    exact = patched_linear(x, Linear(weight, bias), patches)
    half = [
        Patch(p.start, p.stop, Update(tuple((c, in_bf16(u)) for c, u in p.update.parts))) for p in patches
    ]
    found = patched_linear(x.bfloat16(), Linear(weight.bfloat16(), bias.bfloat16()), half)
    assert float((found - exact).norm() / exact.norm()) < 0.02


def test_a_fresh_adapter_is_drawn_as_peft_draws_it() -> None:
    generator = torch.Generator().manual_seed(0)
    own = init_lora({(0, "output"): (8, 400)}, 16, 32.0, generator).updates[0, "output"]
    assert own.scale == 2.0
    assert not own.b.any()
    assert float(own.a.abs().max()) <= 400**-0.5
    assert float(own.a.std()) == pytest.approx(400**-0.5 / 3**0.5, rel=0.05)


def test_one_seed_gives_one_fresh_adapter_in_whatever_order_the_targets_come() -> None:
    shapes = {(1, "value"): (8, 6), (0, "query"): (8, 6)}
    first = init_lora(shapes, 2, 4.0, torch.Generator().manual_seed(1))
    second = init_lora(dict(reversed(shapes.items())), 2, 4.0, torch.Generator().manual_seed(1))
    assert all(map(torch.equal, first.parameters, second.parameters))


def test_the_first_adapted_layer_is_known() -> None:
    assert init_lora({(3, "value"): (8, 6), (2, "query"): (8, 6)}, 2, 4.0).first_layer == 2
    assert Lora({}).first_layer is None


def test_a_cast_keeps_the_graph() -> None:
    own = init_lora({(0, "query"): (8, 6)}, 2, 4.0)
    for factor in own.parameters:
        factor.requires_grad_()
    cast = own.to(torch.device("cpu"), torch.bfloat16)
    torch.cat([factor.flatten() for factor in cast.parameters]).sum().backward()
    assert all(factor.grad is not None for factor in own.parameters)
