from __future__ import annotations

import pytest
import torch

from onetrunk.core.dropout import Dropout


@pytest.mark.parametrize("probability", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_the_share_and_the_mean_are_as_asked(probability: float) -> None:
    torch.manual_seed(0)
    mask = Dropout(probability).fresh(torch.empty(2000, 1001))
    assert float((mask == 0).float().mean()) == pytest.approx(probability, abs=1 / 250)
    assert float(mask.mean()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 8), (7, 9)])
def test_a_mask_has_its_inputs_shape_and_dtype(shape: tuple[int, int]) -> None:
    mask = Dropout(0.5).fresh(torch.empty(shape, dtype=torch.bfloat16))
    assert mask.shape == shape
    assert mask.dtype == torch.bfloat16


def test_inputs_of_one_shape_share_a_mask_within_a_step() -> None:
    dropout = Dropout(0.5)
    x = torch.empty(30, 40)
    assert dropout.shared(x) is dropout.shared(torch.ones(30, 40))
    assert not torch.equal(dropout.fresh(x), dropout.fresh(x))


def test_one_seed_gives_one_mask() -> None:
    masks = []
    for _ in range(2):
        torch.manual_seed(5)
        masks.append(Dropout(0.3).fresh(torch.empty(10, 10)))
    assert torch.equal(*masks)
