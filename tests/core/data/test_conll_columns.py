"""Columns, schemes of tags and odd lines of CoNLL files as people have them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from onetrunk.core.data.formats.base import Source
from onetrunk.core.data.formats.conll import looks_like_conll, read_conll
from onetrunk.core.data.formats.tag_schemes import FileTags
from onetrunk.core.data.notes import Note
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.data.readers import read_records
from onetrunk.core.data.texts import load_unlabelled
from onetrunk.core.errors import DataError

GERMEVAL = (
    "#\thttp://de.wikipedia.org/wiki/X [2009-10-17]\n1\tAufgrund\tO\tO\n2\tseiner\tO\tO\n3\tUlm\tB-LOC\tO\n\n"
)


def read(content: str, columns: Mapping[str, int] | None = None) -> tuple[list[tuple[str, str]], list[Note]]:
    """Return one string of words and one of tags for each sentence."""
    lines = enumerate(content.splitlines(keepends=True), 1)
    source = Source("f", ReadOptions(columns=columns or {}), numbered=lines)
    records = [record for _, record in read_conll(source)]
    return [(" ".join(each["words"]), " ".join(each["tags"])) for each in records], source.notes


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-p M-p E-p S-q O", "B-p I-p I-p B-q O"),
        ("B-p M-p E-p W-q O", "B-p I-p I-p B-q O"),
        ("B-p I-p E-p S-q O", "B-p I-p I-p B-q O"),
        ("B-p I-p L-p U-q O", "B-p I-p I-p B-q O"),
        ("I-p I-p B-p I-q O", "B-p I-p B-p B-q O"),
    ],
    ids=["BMES", "BMEWO", "BIOES", "BILOU", "IOB1"],
)
def test_every_scheme_becomes_iob2_without_a_note(tags: str, expected: str) -> None:
    ((_, found),), notes = read("".join(f"w\t{tag}\n" for tag in tags.split()))
    assert (found, notes) == (expected, [])


@pytest.mark.parametrize(
    ("tags", "expected", "words"),
    [
        ("B I O B", "B-ENTITY I-ENTITY O B-ENTITY", "named ENTITY"),
        ("B M E S O", "B-ENTITY I-ENTITY I-ENTITY B-ENTITY O", "named ENTITY"),
        ("PER PER O LOC", "B-PER I-PER O B-LOC", "equal tags in a row are read as one entity"),
        ("creative-work O B", "B-creative-work O B-B", "equal tags in a row are read as one entity"),
    ],
)
def test_bare_tags_get_a_type_or_a_prefix_with_a_note(tags: str, expected: str, words: str) -> None:
    content = "x\tO\n\n" + "".join(f"w\t{tag}\n" for tag in tags.split())
    sentences, (note,) = read(content)
    assert sentences[1][1] == expected
    assert (note.kind, note.count, note.where, words in note.message) == ("tag-scheme", 1, "f:3", True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tNN\nb\tVB\n", "f:1: the last column is 'NN'; expected a tag"),
        ("a\tO\nb\tPER\n\nc\tB-PER\n", "f:4: the last column is 'B-PER'"),
        ("a\tB-PER\nb\tO\n\nc\tPER\n", "f:4: the last column is 'PER'"),
        ("a\tB\nb\tO\n\nc\tPER\n", "f:4: the last column is 'PER'"),
        ("a\tO\nb\tPER\nc\to\n", "f:3: the last column is 'o'"),
        ("a\tO\nb\tX-PER\nc\tB-\n", "f:3: the last column is 'B-'"),
        ("a\tO\nb\tB_PER\n", "f:2: the last column is 'B_PER'"),
        ("a\tO\nb\tPER-B\n", "f:2: the last column is 'PER-B'"),
    ],
)
def test_tags_of_two_schemes_in_one_file_are_refused_with_their_line(content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(content)


def test_one_decision_on_bare_tags_holds_for_a_file_of_json_records() -> None:
    tags = FileTags()
    assert tags.prefixed(["O", "O"], "f:1") == ["O", "O"]
    assert tags.prefixed(["PER", "PER", "O"], "f:2") == ["I-PER", "I-PER", "O"]
    with pytest.raises(ValueError, match="the tag 'B-PER' does not fit those before it"):
        tags.prefixed(["B-PER"], "f:3")


def test_the_options_name_the_columns_of_germeval() -> None:
    assert read(GERMEVAL, {"word": 2, "tag": 3})[0] == [("Aufgrund seiner Ulm", "O O B-LOC")]
    assert read(GERMEVAL, {"word": 2, "tag": 4})[0] == [("Aufgrund seiner Ulm", "O O O")]


def test_a_first_column_that_counts_is_refused_with_the_columns_to_name() -> None:
    with pytest.raises(
        DataError,
        match=r"f:1: the first column counts the tokens .*--columns word=2,tag=3 \(columns 3, 4 have tags\)",
    ):
        read(GERMEVAL)


def test_short_sentences_that_count_are_refused_too() -> None:
    with pytest.raises(DataError, match=r"f:1: the first column counts .*--columns word=2,tag=3"):
        read("1\thi\tO\n\n1\tthe\tO\n2\tend\tO\n")


def test_numbers_can_be_words() -> None:
    assert read("1\tO\n2\tO\n\nthe\tO\nend\tO\n")[0] == [("1 2", "O O"), ("the end", "O O")]


def test_a_column_beyond_the_last_one_is_refused() -> None:
    with pytest.raises(DataError, match="f:1: has 2 columns, but --columns names column 3"):
        read("a\tO\n", {"tag": 3})


@pytest.mark.parametrize(
    "content",
    [
        "Ada\tB-p\t\nsaid\tO\t\n",
        "Ada\tB-p\t\nsaid\tO\n",
        "Ada\tB-p\r\nsaid\tO\r\n",
        "Ada\tB-p\nsaid\tO",
        "-DOCSTART-\tO\n\nAda\tB-p\nsaid\tO\n",
        "-DOCSTART- -X- O O\n\nAda NNP X B-p\nsaid VBD X O\n",
    ],
)
def test_odd_ends_of_lines_and_documents_change_nothing(content: str) -> None:
    assert read(content) == ([("Ada said", "B-p O")], [])


@pytest.mark.parametrize(
    ("token", "name"),
    [
        ("\u00a0", r"U\+00A0 \(NO-BREAK SPACE\)"),
        ("\u200b", r"U\+200B \(ZERO WIDTH SPACE\)"),
        ("\ufeff", r"U\+FEFF"),
    ],
)
def test_a_token_that_is_not_visible_is_refused_with_its_own_line(token: str, name: str) -> None:
    with pytest.raises(DataError, match=rf"f:2: the token is not visible: {name}"):
        read(f"hi\tO\n{token}\tO\n")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Ada\tB-p\n", True),
        ("# id 1\n-DOCSTART- O\n\nAda B-p\nsaid O\n", True),
        ("Ada NNP B-p\nsaid VBD O\n\n", True),
        ("vitamin O\n", False),
        ("vitamin O\n\nvitamin C\n", False),
        ("I like it\nI do not\n", False),
        ("", False),
        ("text\tlabel\n", False),
    ],
)
def test_the_first_sentence_shows_whether_a_file_is_conll(content: str, expected: bool) -> None:
    assert looks_like_conll(content.splitlines(keepends=True)) is expected


def test_no_line_is_read_that_is_not_needed_to_tell_conll() -> None:
    lines = iter(["Hello there\n", "second\n"])
    assert looks_like_conll(lines) is False
    assert next(lines) == "second\n"


def test_a_file_of_many_sentences_without_entities_is_read(tmp_path: Path) -> None:
    sentences, notes = read("a\tO\nb\tO\n\n" * 3000)
    assert (len(sentences), notes) == (3000, [])


CONLLU = (
    "# text = hi Ada\n1\thi\t_\tINTJ\t_\t_\t0\troot\t_\t_\n"
    "2\tAda\t_\tPROPN\t_\t_\t1\tdep\t_\tNER=B-PER|SpaceAfter=No\n"
)


@pytest.mark.parametrize("name", ["a.conll", "a.txt"])
def test_a_file_with_the_columns_of_conllu_is_read_as_conllu_with_a_note(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(CONLLU)
    notes: list[Note] = []
    (source,) = read_records(tmp_path / name, notes=notes)
    assert (source.record["words"], source.record["tags"]) == (["hi", "Ada"], ["O", "B-PER"])
    assert "read as CoNLL-U" in notes[0].message


def test_predict_joins_the_words_of_conllu_with_their_spaces(tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text(CONLLU.replace("_\t_\n2", "_\tSpaceAfter=No\n2"))
    (record,) = load_unlabelled(tmp_path / "a.conllu")
    assert record.text == "hiAda"
