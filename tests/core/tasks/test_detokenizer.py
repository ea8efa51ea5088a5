from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.core.tasks.detokenizer import join_words


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("Ada ( UK ) , Mae ; 5 % !", "Ada (UK), Mae; 5%!"),
        ("Is it 's what they 've done ? I do n't .", "Is it's what they've done? I don't."),
        ("wait ... what ?! no", "wait... what?! no"),
        ('he said " hello , Ada " twice', 'he said "hello, Ada" twice'),
        ("`` no '' , she said", "``no'', she said"),
        ('a 5 " disk', 'a 5 " disk'),
        ("“ no ” « oui » ¿ qué ?", "“no” «oui» ¿qué?"),
        ("北 京 是 中 国 。", "北京是中国。"),
        ("ไป กรุงเทพ", "ไปกรุงเทพ"),
        ("서울 에서 Ada", "서울 에서 Ada"),
        ("東京 has Ada", "東京 has Ada"),
        ("New - York and / or", "New - York and / or"),
        ("great :) @user #tag", "great :) @user #tag"),
        ("مصر ، نعم ؟", "مصر، نعم؟"),
    ],
)
def test_words_are_joined_with_the_spacing_of_real_text(words: str, text: str) -> None:
    assert join_words(words.split())[0] == text


def test_given_spaces_are_taken_as_they_are() -> None:
    assert join_words(["a", ".", "b"], [True, False, True]) == ("a .b", ((0, 1), (2, 3), (3, 4)))


def test_one_value_is_needed_for_each_word() -> None:
    with pytest.raises(ValueError, match="expected one value under 'spaces' per word, found 1 for 2 words"):
        join_words(["a", "b"], [True])


WORDS = st.lists(st.text("ab.,()\"'東ก ", min_size=1).filter(str.strip), max_size=12)


@given(WORDS)
def test_each_span_has_its_word_and_between_two_is_one_space_or_none(words: list[str]) -> None:
    text, spans = join_words(words)
    assert [text[start:end] for start, end in spans] == words
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    assert {text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)} <= {"", " "}
