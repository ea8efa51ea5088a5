"""Entities as files give them: spellings, units of offsets, repetition and nesting."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetrunk.core.data.dataset import Dataset, load_dataset
from onetrunk.core.data.lines import DataSource
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.errors import DataError
from onetrunk.plugins import intent, ner
from tests.core.data.sample_tasks import jsonl

UTF16 = ReadOptions(offsets="utf16")
LONGEST = ReadOptions(nested="longest")


def read(data: DataSource, options: ReadOptions = AS_WRITTEN) -> Dataset:
    return load_dataset(ner.SPEC, data, options)


def found(text: str, entities: Any, options: ReadOptions = AS_WRITTEN) -> list[tuple[str, str]]:
    """The entities of one row with their types."""
    (example,) = read([{"text": text, "entities": entities}], options).examples
    return [(text[start:end], kind) for (start, end), kind in zip(example.spans, example.target, strict=True)]


def kinds(data: Dataset) -> dict[str, str]:
    return {note.kind: note.message for note in data.notes}


def row(text: str, /, *entities: tuple[int, int, str], **own: Any) -> dict[str, Any]:
    return {
        "text": text,
        "entities": [{"start": a, "end": b, "label": kind, **own} for a, b, kind in entities],
    }


@pytest.mark.parametrize(
    "entity",
    [
        {"start": 0, "end": 3, "label": "PER"},
        {"start": 0, "end": 3, "type": "PER"},
        {"start": 0, "end": 3, "entity": "PER", "value": "ada"},
        {"start": 0, "end": 3, "tag": "PER"},
        {"start": 0, "end": 3, "entity_group": "PER", "score": 0.9, "word": "ada"},
        {"start": 0, "end": 3, "labels": ["PER"]},
        {"start": 0, "end": 3, "label": " PER ", "type": "PER", "text": "Ada"},
        {"start_offset": 0, "end_offset": 3, "label": "PER"},
        [0, 3, "PER"],
        (0, 3, "PER"),
    ],
)
def test_each_spelling_of_an_entity_is_read(entity: Any) -> None:
    assert found("Ada sings", [entity]) == [("Ada", "PER")]


@pytest.mark.parametrize(
    ("entity", "message"),
    [
        (
            {"start": 0, "end": 3, "label": "PER", "type": "X"},
            "an entity has label 'PER' and type 'X'; keep the key",
        ),
        ({"start": 0, "end": 3, "labels": ["PER", "X"]}, "entities PER 0:3 and X 0:3 overlap"),
        ({"start": 0, "end": 3, "label": 4}, "expected an entity"),
        ({"start": 0.0, "end": 3, "label": "PER"}, "expected an entity"),
        (["PER", 0, 3], "expected an entity"),
        ([0, 3], "expected an entity"),
        (None, "expected an entity"),
        ({"start": 0, "end": 99, "label": "PER"}, "PER 0:99 is empty or outside the text of 9 characters"),
    ],
)
def test_what_is_no_entity_is_refused_with_its_place(entity: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"list:row 1: .*{message}"):
        found("Ada sings", [entity])


def test_the_same_entity_twice_counts_once_with_a_note() -> None:
    twice = row("Ada sings", (0, 3, "PER"), (0, 3, "PER"), (0, 3, "PER"))
    data = read([row("Bo", (0, 2, "PER")), twice])
    assert data.examples[1].spans == ((0, 3),)
    (note,) = data.notes
    assert str(note) == "note: list: entities given twice count once: 2; first: list:row 2"
    assert note.count == 2


NESTED = ((0, 22, "ORG"), (14, 22, "LOC"), (26, 32, "LOC"))
NESTED_TEXT = "University of Helsinki in Turku!"


def test_nested_entities_are_refused_with_the_option_that_reads_them() -> None:
    with pytest.raises(DataError, match=r"ORG 0:22 and LOC 14:22 overlap; .* or --nested longest"):
        read([row(NESTED_TEXT, *NESTED)])


def test_of_nested_entities_the_longest_can_be_kept_with_a_note() -> None:
    data = read([row(NESTED_TEXT, *NESTED)], LONGEST)
    assert data.examples[0].spans == ((0, 22), (26, 32))
    assert kinds(data)["nested-entities"].endswith("are left out: 1")


def test_of_equally_long_entities_the_first_is_kept() -> None:
    assert found("ab cd ef", [[3, 8, "Y"], [0, 5, "X"]], LONGEST) == [("ab cd", "X")]
    assert found("ab", [[0, 2, "Y"], [0, 2, "X"]], LONGEST) == [("ab", "Y")]


def test_many_nested_entities_of_one_text_are_read_in_seconds() -> None:
    text = "a 🙂 " * 20_000
    entities = [[4 * at, 4 * at + length, "X"] for at in range(20_000) for length in (1, 3)]
    began = time.monotonic()
    read([{"text": text, "entities": entities}], LONGEST)
    assert time.monotonic() - began < 30


def test_entities_do_not_concern_a_task_on_texts() -> None:
    overlapping = {"text": NESTED_TEXT, "entities": [[0, 5, "X"], [2, 7, "Y"]], "label": "a"}
    assert load_dataset(intent.SPEC, [overlapping]).examples[0].target == "a"


def test_offsets_in_utf16_are_read_with_the_option() -> None:
    assert found("🙂 Ada 🙂", [{"start": 3, "end": 6, "label": "PER", "text": "Ada"}], UTF16) == [
        ("Ada", "PER")
    ]


def test_an_own_text_that_differs_is_refused() -> None:
    with pytest.raises(DataError, match="PER 0:3 is 'Ada' in the text, but its own text is 'Bob'") as caught:
        read([row("Ada and Bob", (0, 3, "PER"), text="Bob")])
    assert "utf16" not in str(caught.value)


def test_if_utf16_fits_all_entities_of_the_file_the_message_names_the_option(tmp_path: Path) -> None:
    rows = [row("Ada", (0, 3, "PER"), text="Ada"), row("🙂 Ada ok", (3, 6, "PER"), text="Ada")]
    path = jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError, match=r"a\.jsonl:2: entity PER 3:6 is 'da ' in the text") as caught:
        read(path)
    hint = "all entities of the file fit if their offsets count UTF-16 code units: give --offsets utf16"
    assert caught.value.lines[1:] == (hint,)
    assert [example.spans for example in read(path, UTF16).examples] == [((0, 3),), ((2, 5),)]


def test_an_entity_beyond_the_text_may_show_utf16_too() -> None:
    with pytest.raises(DataError, match="5:8 is empty or outside the text of 6 characters") as caught:
        read([row("🙂🙂 Ada", (5, 8, "PER")), row("🙂 Ada ok", (3, 6, "PER"))])
    assert "give --offsets utf16" in str(caught.value)


def test_if_an_entity_of_the_file_fits_neither_unit_no_option_is_named() -> None:
    rows = [row("🙂 Ada ok", (3, 6, "PER"), text="Ada"), row("Bob", (0, 3, "PER"), text="Ada")]
    with pytest.raises(DataError, match="'da '") as caught:
        read(rows)
    assert "utf16" not in str(caught.value)


def test_characters_read_as_utf16_are_refused_with_the_remedy() -> None:
    with pytest.raises(DataError, match="begins or ends inside a character") as caught:
        read([row("🙂 Ada", (2, 5, "PER"), text="Ada"), row("🙂🙂 Ada", (3, 6, "PER"), text="Ada")], UTF16)
    assert "leave out --offsets utf16" in str(caught.value)


def test_spans_without_a_text_that_cut_words_only_as_characters_are_noted() -> None:
    data = read([row("🙂 Ada sings", (3, 6, "PER"))])
    assert kinds(data)["offsets-unit"] == (
        "entities after an emoji that begin or end inside a word, as offsets count characters: 1; none does in the "
        "other unit; if the spans are shifted, give --offsets utf16"
    )
    assert "offsets-unit" not in kinds(read([row("🙂 Ada sings", (2, 5, "PER"))]))
    assert "offsets-unit" not in kinds(read([row("Ada sings", (1, 3, "PER"))]))


def test_entities_beside_words_without_tags_are_the_target() -> None:
    record = {**row("Ada sings", (0, 3, "PER")), "tokens": ["Ada", "sings"]}
    assert read([record]).examples[0].spans == ((0, 3),)


def test_an_own_text_that_bytes_of_utf8_fit_is_refused_with_the_unit() -> None:
    with pytest.raises(
        DataError, match=r"own text is 'Köln'; .* its offsets count bytes of UTF-8: convert them"
    ):
        read([row("für Köln und Bonn", (5, 10, "LOC"), text="Köln")])


TEXTS = st.lists(st.sampled_from(["a", "🙂", "é", "한", "𝒜", "x y"]), min_size=1, max_size=12).map("".join)


@given(text=TEXTS, data=st.data())
@settings(max_examples=200, deadline=None)
def test_both_units_give_the_same_entities(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    if not text[start:end].strip():
        return
    units = [len(text[:at].encode("utf-16-le")) // 2 for at in (start, end)]
    own = {"text": text[start:end]}
    as_characters = read([row(text, (start, end, "X"), **own)]).examples
    assert read([row(text, (units[0], units[1], "X"), **own)], UTF16).examples == as_characters
