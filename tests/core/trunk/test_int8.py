from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from onetrunk.adapters.methods.lora import Lora, LowRank
from onetrunk.core.backbones.backbone import DEFAULT_BACKBONE, Backbone
from onetrunk.core.backbones.device import resolve_dtype
from onetrunk.core.backbones.kernels import has_int8, has_vnni
from onetrunk.core.errors import UsageError
from onetrunk.core.trunk.build import build_trunk, trunk_of
from onetrunk.core.trunk.int8 import Int8Linear
from onetrunk.core.trunk.packing import pack
from tests.core.trunk.trunks import packed_trunk

pytestmark = pytest.mark.skipif(not has_int8(), reason="torch has no int8 kernels here")
CPU = torch.device("cpu")
ENGLISH = [
    "what is the balance of my checking account",
    "please set an alarm for 6 am tomorrow",
    "The quick brown fox jumps over the lazy dog near the river bank on a sunny afternoon.",
    "Stocks fell 3.2% on Friday as investors weighed new inflation data.",
    "the acting is fine , but the story never finds its feet and drags on for two hours",
    "Apple opened an office in Lisbon last May, said its head of operations, Maria Silva.",
]


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def random_lora(backbone: Backbone, rank: int, seed: int) -> Lora:
    generator = torch.Generator().manual_seed(seed)
    shapes = backbone.linear_shapes
    return Lora(
        {
            target: LowRank(
                0.2 * torch.randn(rank, d_in, generator=generator),
                0.1 * torch.randn(d_out, rank, generator=generator),
                1.0,
            )
            for target, (d_out, d_in) in shapes.items()
        }
    )


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("rows", [1, 7, 200])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e3])
def test_a_product_is_within_three_percent(rows: int, spread: float) -> None:
    weight, bias, x = draw(48, 64), spread * draw(48), spread * draw(rows, 64)
    assert relative(Int8Linear(weight, bias, x)(x), F.linear(x, weight, bias)) < 0.03


def test_a_row_has_the_same_result_in_any_batch() -> None:
    """A scale for the whole batch would let one long vector drown the others."""
    x = draw(9, 64)
    linear = Int8Linear(draw(48, 64), draw(48), x)
    x[4] *= 1000
    alone = torch.cat([linear(row[None]) for row in x])
    torch.testing.assert_close(linear(x), alone, rtol=1e-6, atol=1e-6)


def test_the_largest_products_do_not_overflow() -> None:
    """Without VNNI, pairs of products are added in 16 bits, which saturate."""
    weight, x = torch.ones(8, 64), torch.ones(3, 64)
    x[:, 0] = 0.0
    torch.testing.assert_close(Int8Linear(weight, torch.zeros(8), x)(x), torch.full((3, 8), 63.0))


def test_rows_and_weights_of_zeros_give_the_bias() -> None:
    bias, x, zeros = draw(8), draw(2, 16), torch.zeros(2, 16)
    assert torch.equal(Int8Linear(draw(8, 16), bias, zeros)(zeros), bias.expand(2, 8))
    assert torch.equal(Int8Linear(torch.zeros(8, 16), bias, x)(x), bias.expand(2, 8))


def test_a_large_column_leaves_the_others_their_levels() -> None:
    """The frozen products of BERT have such inputs: one column reaches 30, most stay below 2."""
    weight, bias, x = draw(48, 64), draw(48), draw(200, 64)
    x[:, 5] *= 30
    others = x.clone()
    others[:, 5] = 0.0
    linear = Int8Linear(weight, bias, x)
    found = linear(x) - F.linear(x - others, weight, bias)
    assert relative(found, F.linear(others, weight)) < 0.1


def test_inputs_of_one_sign_use_all_levels() -> None:
    """GELU gives such inputs: with a scale alone, half of the levels would stand for numbers that do not come."""
    weight, x = draw(48, 64), F.gelu(3 * draw(200, 64))
    assert relative(Int8Linear(weight, torch.zeros(48), x)(x), F.linear(x, weight)) < 0.009


def test_a_trunk_in_int8_has_nearly_the_states_of_one_in_float32(
    bert: Backbone, some_texts: Callable[[int], list[str]]
) -> None:
    packed = pack(bert.encoder.encode(some_texts(20), [()] * 20), [0] * 20)
    with torch.inference_mode():
        exact, rounded = (trunk_of(bert, dtype).forward(packed, {}) for dtype in (torch.float32, torch.int8))
    assert rounded.dtype == torch.float32
    assert relative(rounded, exact) < 0.1


@pytest.mark.skipif(not has_vnni(), reason="without VNNI an input has seven bits")
def test_the_states_of_minilm_are_within_four_percent() -> None:
    """Texts that its products were not made for; 7.7 % before columns were smoothed."""
    minilm = Backbone.load(DEFAULT_BACKBONE, device="cpu", dtype="int8")
    packed = pack(minilm.encoder.encode(ENGLISH, [()] * len(ENGLISH)), [0] * len(ENGLISH))
    with torch.inference_mode():
        exact, rounded = (
            trunk_of(minilm, dtype).forward(packed, {}) for dtype in (torch.float32, torch.int8)
        )
    assert relative(rounded, exact) < 0.04


@pytest.mark.parametrize("seed", range(3))
def test_updates_multiply_the_input_as_it_was(
    bert: Backbone, some_texts: Callable[[int], list[str]], seed: int
) -> None:
    """Columns are smoothed for the frozen products alone."""
    lora = random_lora(bert, 4, seed)
    packed = pack(bert.encoder.encode(some_texts(20), [()] * 20), [0] * 20)
    with torch.inference_mode():
        exact, rounded = (
            trunk_of(bert, dtype).forward(packed, {0: lora}) for dtype in (torch.float32, torch.int8)
        )
        bare = trunk_of(bert, torch.float32).forward(packed, {})
    assert relative(bare, exact) > 0.2
    assert relative(rounded, exact) < 0.05


def test_the_checksum_of_a_trunk_in_int8_is_that_of_its_rounded_weights(bert: Backbone) -> None:
    first, second = (build_trunk(bert, torch.int8) for _ in range(2))
    assert first.precision == torch.int8
    assert first.checksum() == second.checksum() != trunk_of(bert, torch.float32).checksum()


def test_a_trunk_in_int8_does_not_train(bert: Backbone) -> None:
    trunk = packed_trunk(bert, torch.int8)
    with pytest.raises(NotImplementedError, match="serves only"):
        trunk.layers[0].qkv.back(torch.zeros(1, 1))


def test_int8_is_refused_on_a_gpu() -> None:
    assert resolve_dtype("int8", CPU) == torch.int8
    with pytest.raises(UsageError, match="int8 requires an x86 CPU, the device is cuda; use --device cpu"):
        resolve_dtype("int8", torch.device("cuda"))


def test_another_engine_has_no_int8() -> None:
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "onednn"
    try:
        with pytest.raises(UsageError, match="x86 CPU, and torch has no int8 kernels for this CPU"):
            resolve_dtype("int8", CPU)
    finally:
        torch.backends.quantized.engine = before
