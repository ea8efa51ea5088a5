from __future__ import annotations

import unicodedata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.tokenization import Encoded, TextEncoder
from onetrunk.core.tasks.word_splitter import split_words
from onetrunk.core.testing import tiny_backbone

ROOM = 126  # the tiny backbones have 128 positions, two of them for special tokens
EVERY_TEXT = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

ODD = [
    "",
    " ",
    "\u200b",
    "a\u200bb",
    "\u200b \u200b",
    "\ufeffword",
    "🙂",
    "👩‍👩‍👧 family",
    "e\u0301te\u0301",
    "東京へ行く",
    "Привет مرحبا שלום",
    "a\x00b",
    "[SEP] </s> [PAD] <pad>",
    "x" * 5000,
    "🙂" * 700,
    "ab " * 500,
    "\n\t\r\n",
]


def check_sound(encoder: TextEncoder, text: str, words: tuple[tuple[int, int], ...]) -> Encoded:
    (found,) = encoder.encode([text], [words])
    assert len(found.words) == len(words)
    assert all(0 < row < found.rows - 1 for row in found.words)
    assert found.rows == len(found.join_window)
    assert all(2 <= len(ids) <= ROOM + 2 for ids in found.windows)
    return found


@EVERY_TEXT
@given(st.text(max_size=200))
def test_any_text_has_a_row_for_every_word(backbone: Backbone, text: str) -> None:
    check_sound(backbone.encoder, text, split_words(text))


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_odd_texts_have_a_row_for_every_word(backbone: Backbone, text: str) -> None:
    check_sound(backbone.encoder, text, split_words(text))


@EVERY_TEXT
@given(st.text(max_size=80))
@example("x\u200b\u200by 🙂")
def test_words_that_share_no_token_have_rows_of_their_own_in_order(backbone: Backbone, text: str) -> None:
    words = split_words(text)
    tokens = backbone.encoder.tokenise([text])[0]
    found = check_sound(backbone.encoder, text, words).words
    for (a, b), (first, second) in zip(pairwise(words), pairwise(found), strict=True):
        shared = any(start < a[1] and b[0] < end for start, end in tokens.offsets)
        assert first <= second if shared else first < second


@EVERY_TEXT
@given(st.text(max_size=120))
def test_the_row_of_a_word_is_its_first_token(backbone: Backbone, text: str) -> None:
    words = split_words(text)
    tokens = backbone.encoder.tokenise([text])[0]
    found = check_sound(backbone.encoder, text, words)
    ids = put_together(found)
    for (start, end), row in zip(words, found.words, strict=True):
        own = [i for i, (a, b) in zip(tokens.ids, tokens.offsets, strict=True) if a < end and b > start]
        assert ids[row] == (own[0] if own else backbone.encoder.unknown)


def put_together(found: Encoded) -> list[int]:
    return [int(found.windows[w][r]) for w, r in zip(found.join_window, found.join_row, strict=True)]


@EVERY_TEXT
@given(st.text(alphabet="ab c🙂東", max_size=600))
def test_windows_join_to_every_token_exactly_once(backbone: Backbone, text: str) -> None:
    encoder = backbone.encoder
    (found,) = encoder.encode([text], [()])
    tokenizer = backbone.read_tokenizer()
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert put_together(found) == [special[0], *encoder.tokenise([text])[0].ids, special[1]]


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(4, 40))
def test_every_window_is_full_overlaps_the_last_and_gives_the_rows_of_its_middle(
    bert: Backbone, length: int, positions: int
) -> None:
    encoder = TextEncoder(bert.read_tokenizer(), positions)
    (found,) = encoder.encode(["a " * length], [()])
    room = positions - 2
    if length <= room:
        assert len(found.windows) == 1
        return
    assert {len(ids) for ids in found.windows} == {positions}
    first_rows = [int(found.join_row[found.join_window == w].min()) for w in range(len(found.windows))]
    last_rows = [int(found.join_row[found.join_window == w].max()) for w in range(len(found.windows))]
    assert first_rows[0] == 0
    assert last_rows[-1] == positions - 1
    overlap = int(room * 0.25)
    for first, last in zip(first_rows[1:], last_rows[:-1], strict=True):
        assert (first - 1) + (room - last) >= overlap  # what the two windows share
        assert abs((first - 1) - (room - last)) <= 1  # and each gives half of it


def test_many_texts_are_encoded_as_each_alone(backbone: Backbone) -> None:
    encoder = backbone.encoder
    together = encoder.encode(ODD, [split_words(text) for text in ODD])
    for text, found in zip(ODD, together, strict=True):
        (alone,) = encoder.encode([text], [split_words(text)])
        assert put_together(found) == put_together(alone)
        assert np.array_equal(found.words, alone.words)


def test_a_word_that_the_tokenizer_drops_is_read_as_unknown_in_its_place(bert: Backbone) -> None:
    (found,) = bert.encoder.encode(["a \u200b b"], [((0, 1), (2, 3), (4, 5))])
    a, b = bert.read_tokenizer().convert_tokens_to_ids(["a", "b"])
    assert found.windows[0].tolist()[1:-1] == [a, bert.encoder.unknown, b]
    assert found.words.tolist() == [1, 2, 3]


def test_plain_transformers_leaves_out_a_word_that_the_tokenizer_drops(bert: Backbone) -> None:
    plain = bert.read_tokenizer()(["a", "\u200b", "b"], is_split_into_words=True)
    assert plain.word_ids() == [None, 0, 2, None]


def test_two_words_within_one_token_share_its_row(bert: Backbone) -> None:
    (found,) = bert.encoder.encode(["london"], [((0, 2), (2, 6))])
    assert found.words.tolist() == [1, 1]


def test_words_within_one_token_are_joined_to_one_word_on_demand(bert: Backbone) -> None:
    words = [((0, 2), (2, 6), (7, 8))]
    (found,) = bert.encoder.encode(["london a"], words, join=True)
    assert (found.words.tolist(), found.spans) == ([1, 2], ((0, 6), (7, 8)))
    (apart,) = bert.encoder.encode(["london a"], words)
    assert apart.spans == words[0]


@EVERY_TEXT
@given(st.text(max_size=80))
def test_joined_words_have_rows_of_their_own_and_cover_the_same_characters(
    backbone: Backbone, text: str
) -> None:
    words = split_words(text)
    (found,) = backbone.encoder.encode([text], [words], join=True)
    rows = found.words.tolist()
    assert len(rows) == len(set(rows)) == len(found.spans)
    assert {edge for span in found.spans for edge in span} <= {edge for span in words for edge in span}
    assert all(any(a <= start and end <= b for a, b in found.spans) for start, end in words)


def test_unknown_tokens_are_recorded_with_their_characters(bert: Backbone) -> None:
    (found,) = bert.encoder.encode(["good ☃ film 北"], [()])
    assert found.unknown == ((5, 6), (12, 13))


def test_words_of_a_roberta_text_are_tokens_with_the_space_before_them(roberta: Backbone) -> None:
    (found,) = roberta.encoder.encode(["ada loves london"], [((0, 3), (4, 9), (10, 16))])
    tokenizer = roberta.read_tokenizer()
    tokens = [tokenizer.convert_ids_to_tokens(int(found.windows[0][row])) for row in found.words]
    assert tokens == ["ada", "Ġlove", "Ġlondon"]


def test_a_broken_surrogate_is_read_as_the_replacement_character(backbone: Backbone) -> None:
    broken, replaced = backbone.encoder.encode(["good \ud83d film", "good \ufffd film"], [(), ()])
    assert put_together(broken) == put_together(replaced)


def test_a_tokenizer_that_pads_and_cuts_gives_every_token(tmp_path: Path) -> None:
    tokenizer = Backbone.load(tiny_backbone(tmp_path)).read_tokenizer().backend_tokenizer
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (found,) = Backbone.load(tmp_path).encoder.encode(["a b c d e f"], [()])
    assert found.rows == 8


@EVERY_TEXT
@given(text=st.text(alphabet="ae\u00e9\u00fc\u00f1\u00c5\uac01\u1ec7 k.", max_size=30))
def test_a_text_has_the_same_tokens_however_it_was_typed(backbone: Backbone, text: str) -> None:
    composed, decomposed = (
        backbone.encoder.encode([unicodedata.normalize(form, text)], [()])[0] for form in ("NFC", "NFD")
    )
    assert put_together(decomposed) == put_together(composed)


def test_words_are_found_by_their_characters_in_a_decomposed_text(backbone: Backbone) -> None:
    composed, decomposed = backbone.encoder.encode(
        ["caf\u00e9 ada \uac01 x", "cafe\u0301 ada \u1100\u1161\u11a8 x"],
        [[(0, 4), (5, 8), (9, 10), (11, 12)], [(0, 5), (6, 9), (10, 13), (14, 15)]],
    )
    assert decomposed.words.tolist() == composed.words.tolist()
