from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.trunk.packing import joined, joined_parts, pack

MOST = st.sampled_from([None, 5, 12])
"""Tokens of a part, at most."""


@st.composite
def encoded(draw: st.DrawFn, number: int) -> Encoded:
    """A text whose every row has an id of its own: 1000 * number + row, and the same id in each window."""
    lengths = draw(st.lists(st.integers(2, 9), min_size=1, max_size=3))
    windows, join_window, join_row, row = [], [], [], 0
    for w, length in enumerate(lengths):
        ids = np.full(length, -1, dtype=np.int64)
        mine = range(1, length - 1)
        first, last = [0] if w == 0 else [], [length - 1] if w == len(lengths) - 1 else []
        for own in [*first, *mine, *last]:
            ids[own] = 1000 * number + row
            join_window.append(w)
            join_row.append(own)
            row += 1
        windows.append(ids)
    words = draw(st.lists(st.integers(0, row - 1), max_size=3).map(sorted))
    return Encoded(tuple(windows), np.array(join_window), np.array(join_row), np.array(words, dtype=np.int64))


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[Encoded], list[int]]:
    texts = [draw(encoded(i)) for i in range(draw(st.integers(1, 6)))]
    return texts, draw(st.lists(st.integers(0, 3), min_size=len(texts), max_size=len(texts)))


@given(batches(), MOST)
def test_joined_rows_are_each_texts_rows_in_the_order_given(
    batch: tuple[list[Encoded], list[int]], most: int | None
) -> None:
    packed = pack(*batch, most=most)
    ids = torch.cat([part.ids for part in packed.parts])
    rows = ids if packed.join is None else ids[packed.join]
    expected = [1000 * i + row for i, text in enumerate(batch[0]) for row in range(text.rows)]
    assert rows.tolist() == expected


@given(batches(), MOST)
def test_segments_cover_the_rows_of_a_part_once_with_one_slot_each(
    batch: tuple[list[Encoded], list[int]], most: int | None
) -> None:
    packed = pack(*batch, most=most)
    for part in packed.parts:
        assert [s.start for s in part.segments] == [0, *(s.stop for s in part.segments[:-1])]
        assert part.segments[-1].stop == part.tokens
        slots = [s.slot for s in part.segments]
        assert slots == sorted(set(slots))
        for segment in part.segments:
            ids = part.ids[segment.start : segment.stop]
            owners = {int(i) // 1000 for i in ids if i >= 0}
            assert all(batch[1][owner] == segment.slot for owner in owners)
    assert {s.slot for part in packed.parts for s in part.segments} == set(batch[1])
    assert sum(part.tokens for part in packed.parts) == packed.tokens == sum(t.tokens for t in batch[0])


@given(batches(), st.integers(2, 20))
def test_a_part_has_no_more_tokens_than_it_may_or_one_sequence(
    batch: tuple[list[Encoded], list[int]], most: int
) -> None:
    for part in pack(*batch, most=most).parts:
        sequences = sum(block.count for block in part.sequences.blocks.blocks)
        assert part.tokens <= most or sequences == 1


@given(batches())
def test_words_are_found_again_in_every_range_of_texts(batch: tuple[list[Encoded], list[int]]) -> None:
    texts, slots = batch
    packed = pack(texts, slots)
    for first, last in [(0, len(texts)), *pairwise(range(len(texts) + 1))]:
        rows = packed.rows(first, last)
        assert rows.offsets.tolist() == [o - packed.offsets[first] for o in packed.offsets[first : last + 1]]
        starts = rows.offsets.tolist()
        expected = [
            int(w) + start for text, start in zip(texts[first:last], starts, strict=False) for w in text.words
        ]
        assert rows.words.tolist() == expected


@given(batches(), st.sampled_from([0, 500]), MOST)
def test_positions_begin_anew_in_every_window(
    batch: tuple[list[Encoded], list[int]], first: int, most: int | None
) -> None:
    texts = [replace(text, first_position=first) for text in batch[0]]
    packed = pack(texts, batch[1], most)
    positions = torch.cat([part.positions for part in packed.parts]).tolist()
    lengths = sorted(len(ids) for text in batch[0] for ids in text.windows)
    starts = [i for i, p in enumerate(positions) if p == first]
    assert sorted(b - a for a, b in pairwise([*starts, packed.tokens])) == lengths
    for a, b in pairwise([*starts, packed.tokens]):
        assert positions[a:b] == list(range(first, first + b - a))


@settings(max_examples=30)
@given(batches())
def test_the_first_row_of_a_text_is_the_mean_of_its_windows_first_rows(
    batch: tuple[list[Encoded], list[int]],
) -> None:
    packed = pack(*batch)
    hidden = torch.randn(packed.tokens, 3, dtype=torch.float64)
    out = joined(hidden, packed)
    several = {row for row, _ in packed.first_rows}
    assert several == {o for o, text in zip(packed.offsets, batch[0], strict=False) if len(text.windows) > 1}
    for row, windows in packed.first_rows:
        torch.testing.assert_close(out[row], hidden[windows].mean(0))


def test_one_order_needs_no_join(bert: Backbone) -> None:
    texts = bert.encoder.encode(["a", "a b", "a b c"], [(), (), ()])
    assert pack(texts, [0, 0, 0]).join is None
    assert pack(texts, [0, 1, 0]).join is not None


def test_a_batch_is_packed_on_its_device(bert: Backbone) -> None:
    device = torch.device("meta")
    packed = pack(bert.encoder.encode(["a", "b"], [(), ()]), [1, 0], device=device)
    (part,) = packed.parts
    assert packed.join is not None
    tensors = (packed.source, packed.join, packed.words, part.ids, part.positions, part.sequences.starts)
    assert {tensor.device for tensor in tensors} == {device}


@given(batches(), MOST)
def test_rows_joined_part_by_part_are_those_joined_at_once(
    batch: tuple[list[Encoded], list[int]], most: int | None
) -> None:
    packed = pack(*batch, most=most)
    ids = torch.cat([part.ids for part in packed.parts])
    hidden = torch.stack([ids.double(), ids.double() ** 2], 1)
    parts = hidden.split([part.tokens for part in packed.parts])
    torch.testing.assert_close(joined_parts(parts, packed), joined(hidden, packed))


@given(batches(), MOST)
def test_the_parts_of_a_batch_have_its_rows_in_order(
    batch: tuple[list[Encoded], list[int]], most: int | None
) -> None:
    packed = pack(*batch, most=most)
    alone = list(packed.each_part())
    assert [own.parts for own in alone] == [(part,) for part in packed.parts]
    assert torch.equal(torch.cat([own.source for own in alone]), packed.source)
    assert [own.tokens for own in alone] == [part.tokens for part in packed.parts]
