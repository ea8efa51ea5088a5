from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onetrunk.core.tasks.word_splitter import split_words

MIXED = st.text(
    alphabet=st.one_of(st.characters(), st.sampled_from("aZé9 \n.,'’s#@+/:-_!東か🙂🇫\u200d\ufe0f"))
)


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in split_words(text)]


@settings(deadline=None)
@given(MIXED)
@example("\u200d\ufe0f")
def test_spans_are_ordered_apart_not_empty_and_within_the_text(text: str) -> None:
    edges = [0, *(edge for span in split_words(text) for edge in span), len(text)]
    assert edges == sorted(edges)
    assert all(start < end for start, end in split_words(text))


@settings(deadline=None)
@given(MIXED)
@example("a\u3099 東\u3099🙂\u200d")
def test_words_cover_exactly_the_characters_that_are_not_white_space(text: str) -> None:
    assert "".join(words(text)) == "".join(text.split())


@settings(deadline=None)
@given(MIXED, MIXED)
def test_white_space_makes_what_stands_on_either_side_independent(left: str, right: str) -> None:
    assert words(f"{left} {right}") == words(left) + words(right)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ada loved London.", ["Ada", "loved", "London", "."]),
        ('("Why?!")', ["(", '"', "Why", "?", "!", '"', ")"]),
        ("don't twenty-one and/or 3.5 AT&T", ["don't", "twenty-one", "and/or", "3.5", "AT&T"]),
        (
            "see https://a.org/b?c=d#e, or bob@a.org.",
            ["see", "https://a.org/b?c=d#e", ",", "or", "bob@a.org", "."],
        ),
        ("https://a.org/b/.", ["https://a.org/b/", "."]),
        ("$5.50 (50%)", ["$", "5.50", "(", "50", "%", ")"]),
        ("#tag, @user_ ##x # @", ["#tag", ",", "@user_", "#", "#x", "#", "@"]),
        ("C++, C# A+ 1+", ["C++", ",", "C#", "A+", "1", "+"]),
        ("the U.S. and e.g., Mr. X.", ["the", "U.S.", "and", "e.g.", ",", "Mr", ".", "X", "."]),
        ("Ada's, Ada’s 's 'll", ["Ada", "'s", ",", "Ada", "’s", "'s", "'ll"]),
        ("東京、abc日本", ["東", "京", "、", "abc", "日", "本"]),
        ("タワーです", ["タ", "ワ", "ー", "で", "す"]),
        ("한국어 문장입니다.", ["한국어", "문장입니다", "."]),
        ("hi🙂🙂!", ["hi", "🙂", "🙂", "!"]),
        ("👨‍👩‍👧👍🏽❤️🇫🇷🇩🇪", ["👨‍👩‍👧", "👍🏽", "❤️", "🇫🇷", "🇩🇪"]),
        ("London—Paris… ok", ["London", "—", "Paris", "…", "ok"]),
        ("¿Dónde está?", ["¿", "Dónde", "está", "?"]),
        ("", []),
        (" \n\t\u3000", []),
    ],
)
def test_words_are_those_of_a_conll_file(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    "unit", ["a", "!", "a+", "a.", "://", "#", "'s", "東", "🙂", "\u200d🙂", "—", "\u0301"]
)
def test_a_hundred_thousand_characters_without_a_space_take_under_a_second(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    times = []
    for _ in range(3):  # the fastest of three, since the machine may be busy
        start = time.thread_time()  # of this thread alone: others may be at work
        split_words(text)
        times.append(time.thread_time() - start)
    assert min(times) < 1


@pytest.mark.parametrize(
    "text", ["a" * 50_000 + "!" * 50_000, "a." * 25_000 + "bb" + "." * 50_000, "C" + "+" * 99_999]
)
def test_a_long_run_of_punctuation_behind_a_long_word_is_no_slower(text: str) -> None:
    start = time.perf_counter()
    split_words(text)
    assert time.perf_counter() - start < 2  # quadratic time would be minutes
