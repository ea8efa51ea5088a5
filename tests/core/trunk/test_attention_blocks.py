from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.core.trunk.attention import FEW, WASTE, lay_out


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_blocks_have_a_place_for_every_row_and_comes_back(lengths: list[int]) -> None:
    plan = lay_out(lengths)
    rows = torch.arange(sum(lengths))
    if plan.pad is None:
        assert sum(block.count * block.length for block in plan.blocks) == len(rows)
        return
    assert plan.unpad is not None
    assert torch.equal(rows[plan.pad][plan.unpad], rows)


@given(st.lists(st.integers(1, 512), min_size=1, max_size=60))
def test_padding_stays_below_its_share(lengths: list[int]) -> None:
    plan = lay_out(lengths)
    padded = sum(block.count * block.length for block in plan.blocks)
    assert padded - sum(lengths) <= WASTE * padded + FEW * len(plan.blocks)
    assert sum(block.count for block in plan.blocks) == len(lengths)


def test_sequences_of_equal_length_are_one_block_without_any_copy() -> None:
    plan = lay_out([9] * 5)
    assert [(block.count, block.length, block.keep) for block in plan.blocks] == [(5, 9, None)]
    assert plan.pad is None


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_blocks_without_waste_have_one_length_each_and_no_mask(lengths: list[int]) -> None:
    plan = lay_out(lengths, waste=0, few=0)
    found = {block.length: block.count for block in plan.blocks}
    assert len(found) == len(plan.blocks)
    assert found == Counter(lengths)
    assert all(block.keep is None for block in plan.blocks)


def test_few_short_sequences_are_one_block() -> None:
    assert [(block.count, block.length) for block in lay_out([16, 4, 18, 2]).blocks] == [(4, 18)]


def test_many_lengths_are_few_blocks() -> None:
    assert len(lay_out([*range(1, 129)]).blocks) <= 32
