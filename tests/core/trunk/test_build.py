from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.kernels import has_int8
from onetrunk.core.errors import UsageError
from onetrunk.core.testing import TinyShape, tiny_backbone
from onetrunk.core.trunk.build import build_trunk, trunk_of
from onetrunk.core.trunk.packing import pack
from tests.core.trunk.trunks import packed_trunk

WITHOUT_INT8 = pytest.mark.skipif(not has_int8(), reason="torch has no int8 kernels here")
LOWER = [torch.bfloat16, pytest.param(torch.int8, marks=WITHOUT_INT8)]
HIDDEN = 48


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A backbone of a width that no other test has, so that its tensors can be counted."""
    folder: Path = tiny_backbone(
        tmp_path_factory.mktemp("build") / "backbone", shape=TinyShape(hidden=HIDDEN)
    )
    return Backbone.load(folder, device="cpu", dtype="fp32")


def products_in_float32() -> int:
    shapes = {(3 * HIDDEN, HIDDEN), (HIDDEN, HIDDEN)}
    gc.collect()
    tensors = [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]
    return sum(each.dtype == torch.float32 and tuple(each.shape) in shapes for each in tensors)


@pytest.mark.parametrize("dtype", LOWER)
def test_a_lower_precision_keeps_no_product_in_float32(own: Backbone, dtype: torch.dtype) -> None:
    before = products_in_float32()
    trunk = build_trunk(own, dtype)
    assert trunk.precision == dtype
    assert products_in_float32() == before


@pytest.mark.parametrize("dtype", LOWER)
def test_noise_changes_hidden_states_as_much_as_the_precision(
    own: Backbone, dtype: torch.dtype, some_texts: Callable[[int], list[str]]
) -> None:
    trunk = trunk_of(own, dtype)
    packed = pack(own.encoder.encode(some_texts(30), [()] * 30), [0] * 30)
    with torch.inference_mode():
        exact, plain, noisy = (
            each.forward(packed, {}).double()
            for each in (trunk_of(own), trunk, trunk.with_noise(trunk.noise, 1))
        )
    assert 0.4 < float((noisy - plain).norm() / (plain - exact).norm()) < 2.5


def test_a_trunk_with_noise_shares_all_other_weights(own: Backbone) -> None:
    trunk = packed_trunk(own)
    noisy = trunk.with_noise(0.1, 0).tensors()
    changed = {name for name, tensor in trunk.tensors().items() if noisy[name] is not tensor}
    assert {name for name in changed if not torch.equal(noisy[name], trunk.tensors()[name])} == {
        name for name in noisy if "norm" in name and name.endswith("weight")
    }


@pytest.mark.skipif(not has_int8(), reason="torch has no int8 kernels here")
def test_int8_is_refused_for_an_encoder_that_transformers_runs(tmp_path: Path) -> None:
    folder = tiny_backbone(tmp_path / "modern", model_type="modernbert")
    with pytest.raises(UsageError, match="int8 is not supported for modernbert encoders; use fp32 or bf16"):
        build_trunk(Backbone.load(folder, device="cpu", dtype="int8"), torch.int8)
