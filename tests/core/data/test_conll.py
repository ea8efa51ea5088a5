from __future__ import annotations

from pathlib import Path
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.core.data.formats.base import Source
from onetrunk.core.data.formats.conll import read_conll
from onetrunk.core.data.notes import Note
from onetrunk.core.data.readers import read_records
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import Record
from onetrunk.core.tasks.iob2 import iob_begins, is_tag, to_iob2

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"

KINDS = st.sampled_from(["person", "creative-work", "X"])
ANY_TAG = st.just("O") | st.builds("{}-{}".format, st.sampled_from("BIESLUMW"), KINDS)
CHUNKS = st.lists(st.tuples(st.none() | KINDS, st.integers(1, 4)), min_size=1)
"""A sentence as (type or None for outside, words)."""
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\t\n\r "), min_size=1).filter(
    lambda word: (
        not word.startswith("-DOCSTART-")
        and any(category(each) not in ("Zs", "Zl", "Zp", "Cf") for each in word)
    )
)


def sentences(content: str) -> list[Record]:
    return [record for _, record in numbered(content)]


def numbered(content: str) -> list[tuple[int, Record]]:
    return list(read_conll(Source("f", numbered=enumerate(content.splitlines(keepends=True), 1))))


def encode(chunks: list[tuple[str | None, int]], single: str, begin: str, end: str) -> list[str]:
    """Write chunks in a scheme that marks every entity's first and last word."""
    tags: list[str] = []
    for kind, size in chunks:
        if kind is None:
            tags += ["O"] * size
        elif size == 1:
            tags.append(f"{single}-{kind}")
        else:
            tags += [f"{begin}-{kind}", *[f"I-{kind}"] * (size - 2), f"{end}-{kind}"]
    return tags


def encode_iob1(chunks: list[tuple[str | None, int]]) -> list[str]:
    """Write chunks in IOB1: B- only where an entity follows one of its own type."""
    tags: list[str] = []
    before: str | None = None
    for kind, size in chunks:
        first = "B" if kind == before else "I"
        tags += ["O"] * size if kind is None else [f"{first}-{kind}", *[f"I-{kind}"] * (size - 1)]
        before = kind
    return tags


def test_two_columns_give_words_and_tags() -> None:
    assert sentences("Ada\tB-p\nLovelace\tI-p\n\nhi\tO\n") == [
        {"words": ["Ada", "Lovelace"], "tags": ["B-p", "I-p"]},
        {"words": ["hi"], "tags": ["O"]},
    ]


def test_the_first_column_is_the_token_and_the_last_its_tag() -> None:
    (sentence,) = sentences("Ada NNP  B-NP I-PER\nslept VBD B-VP O\n")
    assert sentence == {"words": ["Ada", "slept"], "tags": ["B-PER", "O"]}


def test_a_sentence_stands_where_its_first_token_stands() -> None:
    assert [number for number, _ in numbered("\n\na O\nb O\n \n\nc O")] == [3, 7]


def test_docstart_lines_are_skipped_and_end_a_sentence() -> None:
    content = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\n-DOCSTART- -X- O\nhi UH O O\n"
    assert [sentence["words"] for sentence in sentences(content)] == [["EU"], ["hi"]]


def test_a_token_may_hold_a_space_in_a_tab_file() -> None:
    assert sentences("New York\tB-place\n")[0]["words"] == ["New York"]


def test_a_no_break_space_belongs_to_its_token() -> None:
    assert sentences("10\u00a0000 O\n")[0]["words"] == ["10\u00a0000"]


@pytest.mark.parametrize("gap", ["\t", " "])
def test_comments_before_every_sentence_are_skipped(gap: str) -> None:
    content = f"# id 1\n# text = Vitamin A\nVitamin{gap}O\nO{gap}O\n\n# id 2\n#{gap}O\nhi{gap}O\n"
    assert [sentence["words"] for sentence in sentences(content)] == [["Vitamin", "O"], ["#", "hi"]]


def test_a_notice_at_the_head_of_a_file_is_skipped() -> None:
    assert sentences("# Version 3, free to use\n\nhi\tO\n") == [{"words": ["hi"], "tags": ["O"]}]


def test_a_hash_sign_is_a_token_where_sentences_do_not_begin_with_comments() -> None:
    assert sentences("#\tO\nhi\tO\n\n#\tO\n")[1] == {"words": ["#"], "tags": ["O"]}


def test_a_comment_where_the_first_sentence_has_none_is_a_fault() -> None:
    with pytest.raises(DataError, match="f:3: has one column; expected a token and its tag"):
        sentences("hi\tO\n\n# a comment\nhi\tO\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hi\n", "f:1: has one column; expected a token and its tag, separated by a tab or by spaces"),
        ("a b O\nc O\n", "f:2: has 2 columns; expected 3"),
        ("a\tO\nb O\n", "f:2: has one column"),
        ("a\tO\n\tO\n", "f:2: the token is empty"),
        ("a\tO\nb\t\n", "f:2: the last column is ''; expected a tag: O, B-TYPE"),
        ("a\tB-p\n\nb\tperson\n", "f:3: the last column is 'person'"),
        ("a\tB-\n", "f:1: the last column is 'B-'"),
        ("a\tX-person\n", "f:1: the last column is 'X-person'"),
        ("a\to\n", "f:1: the last column is 'o'"),
    ],
)
def test_a_broken_line_is_named(content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        sentences(content)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("I-p I-p O I-q", "B-p I-p O B-q"),
        ("I-p B-p I-q", "B-p B-p B-q"),
        ("B-p I-q", "B-p B-q"),
        ("S-p S-p B-q E-q", "B-p B-p B-q I-q"),
        ("U-p U-p B-q I-q L-q I-q", "B-p B-p B-q I-q I-q B-q"),
        ("E-p I-p", "B-p B-p"),
        ("O I-p", "O B-p"),
    ],
)
def test_a_tag_that_starts_an_entity_becomes_b(tags: str, expected: str) -> None:
    assert to_iob2(tags.split()) == expected.split()


@pytest.mark.parametrize("tag", ["", "B", "I-", "B- ", "b-p", "X-p", "BI-p", "-p", "O-p", None, 3])
def test_what_is_no_tag_is_refused_with_its_position(tag: str) -> None:
    with pytest.raises(ValueError, match=r"tag 2 is .*; expected O, B-TYPE or I-TYPE"):
        to_iob2(["O", tag])


@given(tags=st.lists(ANY_TAG))
def test_iob2_stays_as_it_is(tags: list[str]) -> None:
    once = to_iob2(tags)
    assert to_iob2(once) == once


@given(tags=st.lists(ANY_TAG))
def test_every_i_of_the_result_continues_an_entity_of_its_type(tags: list[str]) -> None:
    result = to_iob2(tags)
    for before, tag in zip(["O", *result], result, strict=False):
        assert is_tag(tag)
        assert not tag.startswith("I-") or before[2:] == tag[2:]


@given(tags=st.lists(ANY_TAG))
def test_no_word_changes_its_type(tags: list[str]) -> None:
    assert [tag[2:] for tag in to_iob2(tags)] == [tag[2:] for tag in tags]


@given(chunks=CHUNKS)
def test_all_four_schemes_say_the_same_in_iob2(chunks: list[tuple[str | None, int]]) -> None:
    expected = encode(chunks, single="B", begin="B", end="I")
    assert to_iob2(expected) == expected
    assert to_iob2(encode(chunks, single="S", begin="B", end="E")) == expected
    assert to_iob2(encode(chunks, single="U", begin="B", end="L")) == expected
    assert to_iob2(encode_iob1(chunks)) == expected


@given(
    corpus=st.lists(st.lists(st.tuples(WORDS, ANY_TAG), min_size=1), min_size=1),
    gap=st.sampled_from(["\t", " ", "   "]),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_sentences_written_as_conll_are_read_back(
    corpus: list[list[tuple[str, str]]], gap: str, newline: str
) -> None:
    lines = [line for rows in corpus for line in (*(f"{word}{gap}{tag}" for word, tag in rows), "")]
    records = [
        record
        for _, record in read_conll(Source("f", numbered=enumerate((line + newline for line in lines), 1)))
    ]
    assert records == [
        {"words": [word for word, _ in rows], "tags": to_iob2([tag for _, tag in rows])} for rows in corpus
    ]


@pytest.mark.skipif(not DATA.is_dir(), reason="the data sets are not at hand")
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("wnut17/train.conll", (3_394, 62_730, 1_975)),
        ("wnut17/dev.conll", (1_009, 15_733, 836)),
        ("wnut17/test.conll", (1_287, 23_394, 1_079)),
        ("snips/train.conll", (13_084, 117_700, 33_958)),
        ("snips/dev.conll", (700, 6_384, 1_794)),
        ("snips/test.conll", (700, 6_354, 1_790)),
    ],
)
def test_sentences_tokens_and_entities_of_real_data_are_as_published(
    file: str, expected: tuple[int, int, int]
) -> None:
    records = [source.record for source in read_records(DATA / file)]
    tags = [tag for record in records for tag in record["tags"]]
    assert (len(records), len(tags), sum(tag.startswith("B-") for tag in tags)) == expected


@pytest.mark.parametrize(
    ("tags", "begins"),
    [
        ("I-LOC I-LOC O I-PER", (2, 0)),
        ("B-LOC I-LOC O B-PER", (0, 2)),
        ("I-LOC B-LOC", (1, 0)),
        ("I-LOC I-PER B-LOC O", (2, 1)),
        ("I-LOC O S-PER", (0, 0)),
        ("O O", (0, 0)),
    ],
)
def test_the_scheme_shows_where_entities_begin(tags: str, begins: tuple[int, int]) -> None:
    assert iob_begins(tags.split()) == begins


def test_iob1_and_iob2_in_one_file_are_noted_with_the_first_of_the_rarer_one(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("Ada B-PER\n\nBo B-PER\n\nOslo I-LOC\n")
    notes: list[Note] = []
    assert len(list(read_records(path, notes=notes))) == 3
    (note,) = notes
    assert (note.kind, note.count, note.where) == ("mixed-schemes", 1, f"{path}:5")
    assert note.message.startswith("1 entities begin with I- (IOB1) and 2 with B- (IOB2)")


@pytest.mark.parametrize("tags", [("I-PER", "I-LOC"), ("B-PER", "B-LOC")])
def test_one_scheme_is_not_noted(tmp_path: Path, tags: tuple[str, str]) -> None:
    path = tmp_path / "a.conll"
    path.write_text(f"Ada {tags[0]}\n\nOslo {tags[1]}\n")
    notes: list[Note] = []
    assert len(list(read_records(path, notes=notes))) == 2
    assert notes == []
