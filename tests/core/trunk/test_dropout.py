from __future__ import annotations

import pytest
import torch

from onetrunk.core.trunk.dropout import Dropout, Masks
from onetrunk.core.trunk.packing import Segment


def mask_of(probability: float, shape: tuple[int, int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return Dropout(probability).draw(torch.Size(shape), dtype, torch.device("cpu"))


@pytest.mark.parametrize("probability", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_the_share_and_the_mean_are_as_asked(probability: float) -> None:
    torch.manual_seed(0)
    mask = mask_of(probability, (2000, 1001))
    assert float((mask == 0).float().mean()) == pytest.approx(probability, abs=1 / 250)
    assert float(mask.mean()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 8), (7, 9)])
def test_a_mask_has_its_inputs_shape_and_dtype(shape: tuple[int, int]) -> None:
    mask = mask_of(0.5, shape, torch.bfloat16)
    assert mask.shape == shape
    assert mask.dtype == torch.bfloat16


def test_packed_inputs_have_the_mask_of_their_slot_and_rows_without_dropout_stay() -> None:
    drawn = {1: {8: mask_of(0.5, (3, 8))}, 4: {8: mask_of(0.5, (2, 8))}}
    masks, x = Masks(drawn), torch.empty(9, 8)
    segments = (Segment(0, 3, 1), Segment(3, 7, 2), Segment(7, 9, 4))
    mask = masks.of(x, segments)
    assert torch.equal(mask, torch.cat((drawn[1][8], torch.ones(4, 8), drawn[4][8])))
    assert masks.of(torch.ones(9, 8), segments) is mask  # shared by all layers


def test_a_product_that_an_adapter_leaves_alone_has_no_mask_of_it() -> None:
    """Beside it in a shared step, another adapter may change that product."""
    drawn = {1: {8: mask_of(0.5, (3, 8))}, 2: {16: mask_of(0.5, (2, 16))}}
    mask = Masks(drawn).of(torch.empty(5, 16), (Segment(0, 3, 1), Segment(3, 5, 2)))
    assert torch.equal(mask, torch.cat((torch.ones(3, 16), drawn[2][16])))


def test_one_seed_gives_one_mask() -> None:
    masks = []
    for _ in range(2):
        torch.manual_seed(5)
        masks.append(mask_of(0.3, (10, 10)))
    assert torch.equal(*masks)
