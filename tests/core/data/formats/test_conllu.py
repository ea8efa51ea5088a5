from __future__ import annotations

from pathlib import Path

import pytest

from onetrunk.core.data.notes import Note
from onetrunk.core.data.readers import SourceRecord, read_records
from onetrunk.core.errors import DataError
from tests.core.data.sample_tasks import write


def token(identity: object, form: str, misc: str = "_", *more: str) -> str:
    return "\t".join([str(identity), form, "lemma", "X", "_", "_", "0", "dep", "_", misc, *more])


def read(path: Path, *lines: str, notes: list[Note] | None = None) -> list[SourceRecord]:
    return list(read_records(write(path / "a.conllu", "\n".join(lines) + "\n"), notes=notes))


def test_words_are_forms_and_tags_are_in_misc(tmp_path: Path) -> None:
    lines = ["# text = Ada!", token(1, "Ada", "start_char=0|ner=B-PER|SpaceAfter=No"), token(2, "!", "NER=O")]
    (source,) = read(tmp_path, *lines)
    assert source.record == {"words": ["Ada", "!"], "tags": ["B-PER", "O"], "spaces": [False, True]}
    assert source.where == f"{tmp_path}/a.conllu:2"


def test_tags_are_in_an_eleventh_column(tmp_path: Path) -> None:
    (source,) = read(tmp_path, token(1, "Ada", "_", "S-PER"), token(2, "sings", "_", "O"))
    assert source.record == {"words": ["Ada", "sings"], "tags": ["S-PER", "O"]}


def test_a_file_without_tags_has_none(tmp_path: Path) -> None:
    found = read(tmp_path, token(1, "Ada"), "", token(1, "x"), "", "", "# end")
    assert [source.record for source in found] == [{"words": ["Ada"]}, {"words": ["x"]}]


def test_words_without_a_tag_are_outside_of_entities_with_a_note(tmp_path: Path) -> None:
    notes: list[Note] = []
    lines = [token(1, "Hi"), "", token(1, "Ada", "NER=B-PER"), token(2, "sings")]
    found = read(tmp_path, *lines, notes=notes)
    assert [source.record["tags"] for source in found] == [["O"], ["B-PER", "O"]]
    assert [str(note) for note in notes] == [
        f"note: {tmp_path}/a.conllu: words without NER= count as O: 2; first: {tmp_path}/a.conllu:1"
    ]


def test_a_token_of_several_words_is_one_word_with_their_first_tag(tmp_path: Path) -> None:
    notes: list[Note] = []
    lines = [
        token("1-2", "zum", "SpaceAfter=No"),
        token(1, "zu", "NER=O"),
        token(2, "dem", "NER=B-LOC"),
        token("2.1", "empty", "NER=B-PER"),
        token(3, "Zoo", "NER=I-LOC"),
    ]
    (source,) = read(tmp_path, *lines, notes=notes)
    assert source.record == {"words": ["zum", "Zoo"], "tags": ["B-LOC", "I-LOC"], "spaces": [False, True]}
    assert [note.kind for note in notes] == ["multiword-tokens"]


def test_a_form_may_contain_spaces_and_a_tag_an_equals_sign(tmp_path: Path) -> None:
    (source,) = read(tmp_path, token(1, "20  000", "NER=B-A=B"), token(2, "# x", "NER=O"))
    assert source.record == {"words": ["20  000", "# x"], "tags": ["B-A=B", "O"]}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["1\tAda\tB-PER"],
            "1: has 3 columns; expected 10 columns separated by tabs, or one more with the tag",
        ),
        (["1 Ada _ _ _ _ _ _ _ _"], "1: has 1 columns; expected 10"),
        ([token(1, "a"), token(2, "b", "_", "O")], "2: has 11 columns; expected .* the same in a sentence"),
        ([token("x", "a")], "1: the ID is 'x'; expected a number, a range or a decimal"),
        ([token("1-", "a")], "1: the ID is '1-'"),
        ([token(1, " ")], "1: the form of the word is empty"),
        ([token(1, "a", "NER=PER")], "1: the tag is 'PER'; expected O, B-TYPE"),
        ([token("1.1", "a")], "1: the sentence has no words"),
        (["# only a comment"], "has no records"),
    ],
)
def test_a_line_that_breaks_the_format_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=rf"a\.conllu:.*{message}"):
        read(tmp_path, *lines)


def test_tags_that_begin_late_in_a_file_are_refused(tmp_path: Path) -> None:
    lines = [token(1, "x"), ""] * 20_001 + [token(1, "Ada", "NER=B-PER")]
    with pytest.raises(DataError, match=r":40003: has the first NER= after 20000 sentences without one"):
        read(tmp_path, *lines)
