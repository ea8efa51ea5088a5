from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from onetrunk.core.trunk.attention import Sequences, attend

HEADS, WIDTH = 2, 8
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def draw(lengths: list[int], dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(sum(lengths))
    return torch.randn(sum(lengths), 3 * WIDTH, generator=generator, dtype=dtype)


def one_by_one(qkv: Tensor, lengths: list[int]) -> Tensor:
    outputs = []
    for start, stop in pairwise([0, *accumulate(lengths)]):
        q, k, v = (x.view(stop - start, HEADS, -1).transpose(0, 1) for x in qkv[start:stop].split(WIDTH, 1))
        weights = (q @ k.transpose(1, 2) / (WIDTH // HEADS) ** 0.5).softmax(-1)
        outputs.append((weights @ v).transpose(0, 1).reshape(stop - start, WIDTH))
    return torch.cat(outputs)


@settings(max_examples=40, deadline=None)
@given(LENGTHS)
def test_a_packed_batch_attends_as_each_sequence_alone_without_gradients(lengths: list[int]) -> None:
    qkv = draw(lengths)
    with torch.inference_mode():
        found = attend(qkv, Sequences(lengths), HEADS)
    torch.testing.assert_close(found, one_by_one(qkv, lengths))


@settings(max_examples=40, deadline=None)
@given(LENGTHS)
def test_a_packed_batch_attends_and_learns_as_each_sequence_alone(lengths: list[int]) -> None:
    qkv = draw(lengths).requires_grad_()
    found, expected = attend(qkv, Sequences(lengths), HEADS), one_by_one(qkv, lengths)
    torch.testing.assert_close(found, expected)
    (own,), (right,) = (torch.autograd.grad(y.sin().sum(), qkv) for y in (found, expected))
    torch.testing.assert_close(own, right)


@pytest.mark.parametrize(
    "lengths",
    [
        [1],
        [1, 1, 1],
        [5],
        [7, 7],
        [1, 40],
        [40, 1, 39, 2, 40],
        [*range(1, 41)],
        [96, 97, 3, 192],
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grad", [False, True])
def test_every_layout_is_right_in_every_precision(lengths: list[int], dtype: torch.dtype, grad: bool) -> None:
    qkv = draw(lengths)
    with torch.set_grad_enabled(grad):
        found = attend(qkv.to(dtype), Sequences(lengths), HEADS)
    assert found.dtype == dtype
    error = (found - one_by_one(qkv, lengths)).norm() / one_by_one(qkv, lengths).norm()
    assert float(error) < (1e-6 if dtype == torch.float32 else 0.02)


def test_gradients_pass_gradcheck() -> None:
    sequences = Sequences([3, 1, 2, 5])
    qkv = draw([3, 1, 2, 5]).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: attend(x, sequences, HEADS), (qkv,))


def test_the_two_paths_agree_with_torchs_own_attention() -> None:
    qkv = draw([6])
    q, k, v = qkv.view(6, 3, HEADS, -1).permute(1, 2, 0, 3)
    expected = F.scaled_dot_product_attention(q, k, v).transpose(0, 1).reshape(6, WIDTH)
    torch.testing.assert_close(attend(qkv, Sequences([6]), HEADS), expected)
