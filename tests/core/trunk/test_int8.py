from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.device import has_int8, resolve_dtype
from onetrunk.core.errors import UsageError
from onetrunk.core.trunk.int8 import Int8Linear
from onetrunk.core.trunk.packed import Trunk
from onetrunk.core.trunk.packing import pack

pytestmark = pytest.mark.skipif(not has_int8(), reason="torch has no int8 kernels here")
CPU = torch.device("cpu")


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("rows", [1, 7, 200])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e3])
def test_a_product_is_within_three_percent(rows: int, spread: float) -> None:
    weight, bias, x = draw(48, 64), spread * draw(48), spread * draw(rows, 64)
    assert relative(Int8Linear(weight, bias)(x), F.linear(x, weight, bias)) < 0.03


def test_a_row_has_the_same_result_in_any_batch() -> None:
    """A scale for the whole batch would let one long vector drown the others."""
    linear, x = Int8Linear(draw(48, 64), draw(48)), draw(9, 64)
    x[4] *= 1000
    alone = torch.cat([linear(row[None]) for row in x])
    torch.testing.assert_close(linear(x), alone, rtol=1e-6, atol=1e-6)


def test_the_largest_products_do_not_overflow() -> None:
    """Without VNNI, pairs of products are added in 16 bits, which saturate."""
    weight, x = torch.ones(8, 64), torch.ones(3, 64)
    torch.testing.assert_close(Int8Linear(weight, torch.zeros(8))(x), torch.full((3, 8), 64.0))


def test_rows_and_weights_of_zeros_give_the_bias() -> None:
    bias = draw(8)
    assert torch.equal(Int8Linear(draw(8, 16), bias)(torch.zeros(2, 16)), bias.expand(2, 8))
    assert torch.equal(Int8Linear(torch.zeros(8, 16), bias)(draw(2, 16)), bias.expand(2, 8))


def test_a_trunk_in_int8_has_nearly_the_states_of_one_in_float32(
    bert: Backbone, some_texts: Callable[[int], list[str]]
) -> None:
    packed = pack(bert.encoder.encode(some_texts(20), [()] * 20), [0] * 20, bert.first_position)
    with torch.inference_mode():
        exact, rounded = (Trunk.of(bert, dtype).forward(packed, {}) for dtype in (torch.float32, torch.int8))
    assert rounded.dtype == torch.float32
    assert relative(rounded, exact) < 0.1


def test_the_checksum_of_a_trunk_in_int8_is_that_of_its_rounded_weights(bert: Backbone) -> None:
    first, second = (Trunk.build(bert, torch.int8) for _ in range(2))
    assert first.precision == torch.int8
    assert first.checksum() == second.checksum() != Trunk.of(bert, torch.float32).checksum()


def test_a_trunk_in_int8_does_not_train(bert: Backbone) -> None:
    trunk = Trunk.of(bert, torch.int8)
    with pytest.raises(NotImplementedError, match="serves only"):
        trunk.layers[0].qkv.back(torch.zeros(1, 1))


def test_int8_is_refused_on_a_gpu() -> None:
    assert resolve_dtype("int8", CPU) == torch.int8
    with pytest.raises(UsageError, match="int8 runs on x86 CPUs alone, not on cuda; name --device cpu"):
        resolve_dtype("int8", torch.device("cuda"))


def test_another_engine_has_no_int8() -> None:
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "onednn"
    try:
        with pytest.raises(UsageError, match="int8 runs on x86 CPUs alone, not on this one"):
            resolve_dtype("int8", CPU)
    finally:
        torch.backends.quantized.engine = before
