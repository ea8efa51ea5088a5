from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onetrunk.core.tasks import IGNORE, Example, TaskNote
from onetrunk.core.tasks.guarded_calls import notes_on
from onetrunk.core.tasks.iob2 import to_iob2
from onetrunk.core.testing import check_task
from onetrunk.plugins.ner import SPEC, tasks

LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
TAGS = st.lists(st.sampled_from(LABELS), max_size=12)


def logits_of(tags: Sequence[str], height: float = 9.0) -> np.ndarray:
    """Logits that prefer the tags, one row a word."""
    rows = np.zeros((len(tags), len(LABELS)), dtype=np.float32)
    rows[np.arange(len(tags)), [LABELS.index(tag) for tag in tags]] = height
    return rows


def entities(text: str, *spans: tuple[int, int, str]) -> dict[str, Any]:
    return {
        "text": text,
        "entities": [{"start": start, "end": end, "label": label} for start, end, label in spans],
    }


def found_in(example: Example) -> list[tuple[str, str]]:
    spans = zip(example.spans, example.target, strict=True)
    return [(example.text[start:end], name) for (start, end), name in spans]


def tags_of(example: Example) -> list[str]:
    """The tag of each word, `?` for a word that is left out of the training."""
    return ["?" if target == IGNORE else LABELS[int(target)] for target in SPEC.targets(example, LABELS)]


def words_of(example: Example) -> list[str]:
    return [example.text[start:end] for start, end in SPEC.spans(example)]


def test_the_task_follows_the_contract() -> None:
    tagged = [(["ada", "love", "london"], ["B-PER", "O", "B-LOC"]), (["book", "a", "table"], ["O", "O", "O"])]
    check_task(SPEC, [{"words": words, "tags": tags} for words, tags in tagged * 6])
    assert list(tasks()) == [SPEC]


@pytest.mark.parametrize("names", [("words", "tags"), ("tokens", "ner_tags")])
def test_words_are_joined_as_in_real_text_and_keep_their_spans(names: tuple[str, str]) -> None:
    example = SPEC.read({names[0]: ["Ada", "in", "London", "."], names[1]: ["B-PER", "O", "B-LOC", "O"]})
    spans = ((0, 3), (4, 6), (7, 13), (13, 14))
    assert example == Example("Ada in London.", ("PER", "LOC"), spans, spans=((0, 3), (7, 13)))


def test_given_spaces_decide_how_words_are_joined() -> None:
    record = {"words": ["Ada", "-", "Mae", "("], "spaces": [False, False, True, False], "tags": ["O"] * 4}
    assert SPEC.read(record).text == "Ada-Mae ("


def test_tags_of_another_scheme_become_entities() -> None:
    example = SPEC.read({"words": ["New", "York", "Ada"], "tags": ["I-LOC", "I-LOC", "S-PER"]})
    assert found_in(example) == [("New York", "LOC"), ("Ada", "PER")]


def test_tags_of_a_text_stand_for_its_chunks_between_white_space() -> None:
    example = SPEC.read({"text": "to  Ada's house", "label": "x", "tags": ["O", "B-PER", "O"]})
    assert (words_of(example), found_in(example)) == (["to", "Ada's", "house"], [("Ada's", "PER")])


def test_a_record_without_tags_and_entities_has_no_target() -> None:
    assert SPEC.read({"text": "Ada."}) == Example("Ada.")
    assert SPEC.read({"words": ["Ada", "."], "tags": None}) == Example("Ada.", None, ((0, 3), (3, 4)))


def test_entities_given_in_characters_become_tags_of_words() -> None:
    example = SPEC.read(entities("Ada Lovelace's London.", (15, 21, "LOC"), (0, 12, "PER")))
    assert words_of(example) == ["Ada", "Lovelace", "'s", "London", "."]
    assert tags_of(example) == ["B-PER", "I-PER", "O", "B-LOC", "O"]


def test_an_empty_list_of_entities_says_that_there_are_none() -> None:
    assert tags_of(SPEC.read(entities("good film"))) == ["O", "O"]


@pytest.mark.parametrize(
    ("text", "span", "words", "tags"),
    [
        ("Köln/Kiel", (5, 9), ["Köln", "/", "Kiel"], ["O", "O", "B-LOC"]),
        (
            "a New-York-based one",
            (2, 10),
            ["a", "New", "-", "York", "-", "based", "one"],
            "O B-LOC I-LOC I-LOC O O O",
        ),
        ("l'Italie", (2, 8), ["l", "'", "Italie"], ["O", "O", "B-LOC"]),
        ("서울에서", (0, 2), ["서", "울", "에", "서"], ["B-LOC", "I-LOC", "O", "O"]),
        (
            "ไปกรุงเทพ",
            (2, 9),
            ["ไ", "ป", "ก", "รุ", "ง", "เ", "ท", "พ"],
            "O O B-LOC I-LOC I-LOC I-LOC I-LOC I-LOC",
        ),
        ("我在北京", (2, 4), ["我", "在", "北", "京"], ["O", "O", "B-LOC", "I-LOC"]),
        ("costs 5€", (6, 8), ["costs", "5", "€"], ["O", "B-LOC", "I-LOC"]),
        ("in מִצְרַיִם.", (3, 12), ["in", "מִצְרַיִם", "."], ["O", "B-LOC", "O"]),
        ("東京\u3000大阪", (3, 5), ["東", "京", "大", "阪"], ["O", "O", "B-LOC", "I-LOC"]),
        ("to\u00a0Rome", (3, 7), ["to", "Rome"], ["O", "B-LOC"]),
        ("see https://a.org/b-c", (4, 21), ["see", "https://a.org/b-c"], ["O", "B-LOC"]),
        ("ask bob@a-b.org.", (4, 15), ["ask", "bob@a-b.org", "."], ["O", "B-LOC", "O"]),
        ("in C++ by #tag @user", (3, 6), ["in", "C++", "by", "#tag", "@user"], "O B-LOC O O O"),
    ],
)
def test_an_entity_at_the_borders_of_words_is_learnt(
    text: str, span: tuple[int, int], words: list[str], tags: str | list[str]
) -> None:
    example = SPEC.read(entities(text, (*span, "LOC")))
    assert words_of(example) == words
    assert tags_of(example) == (tags.split() if isinstance(tags, str) else tags)


@pytest.mark.parametrize(
    ("text", "span", "tags"),
    [
        ("an OpenAIModel", (3, 9), ["O", "?"]),
        ("don't", (3, 4), ["?"]),
        ("cafe\u0301 Rome", (0, 4), ["?", "O"]),
        ("👩‍👩‍👧 Rome", (0, 1), ["?", "O"]),
        ("www.rome.it", (4, 8), ["?"]),
    ],
)
def test_words_with_a_part_of_an_entity_are_left_out_of_the_training(
    text: str, span: tuple[int, int], tags: list[str]
) -> None:
    assert tags_of(SPEC.read(entities(text, (*span, "LOC")))) == tags


@pytest.mark.parametrize(
    ("text", "given_", "read_"),
    [
        ("in New York now", (2, 12), (3, 11)),
        ("a\u00a0Rome\u3000b", (1, 7), (2, 6)),
        ("Rome\u00ad b", (0, 5), (0, 4)),
        ("\u200fמצרים\u200f", (0, 7), (1, 6)),
    ],
)
def test_white_space_and_invisible_characters_at_the_edges_of_an_entity_are_left_out(
    text: str, given_: tuple[int, int], read_: tuple[int, int]
) -> None:
    example = SPEC.read(entities(text, (*given_, "LOC")))
    assert (example.spans, "B-LOC" in tags_of(example)) == ((read_,), True)


def test_the_notes_count_the_entities_that_were_trimmed() -> None:
    rows = [
        entities("Ada was here", (0, 3, "PER")),
        entities("in Rome or Oslo ", (2, 7, "LOC"), (11, 16, "LOC")),
    ]
    read = [replace(SPEC.read(row), where=f"f:{line}") for line, row in enumerate(rows, 1)]
    why = "begin or end with white space or an invisible character, which is left out"
    assert notes_on(SPEC, read) == (TaskNote("entities-trimmed", f"2 of 3 entities {why}", 2, "f:2"),)
    assert notes_on(SPEC, read[:1]) == ()


def test_a_note_counts_the_entities_that_begin_or_end_inside_a_word() -> None:
    rows = [entities("Ada was here", (0, 3, "PER")), entities("an OpenAIModel", (3, 9, "LOC")), {"text": "x"}]
    read = [replace(SPEC.read(row), where=f"f:{line}") for line, row in enumerate(rows, 1)]
    (note,) = notes_on(SPEC, read, "encoded_notes")
    assert (note.kind, note.count, note.where) == ("entities-inside-words", 1, "f:2")
    assert note.message.startswith("1 of 2 entities begin or end inside a word")
    assert notes_on(SPEC, read[:1], "encoded_notes") == ()


def test_a_note_counts_the_entities_of_given_words_that_plain_text_hides() -> None:
    record = {"words": ["see", "can", "not", "Rome"], "spaces": [True, False, True, True]}
    read = SPEC.read({**record, "tags": ["O", "O", "B-LOC", "B-LOC"]})
    (note,) = notes_on(SPEC, [replace(read, where="f:1")])
    assert (note.kind, note.count, note.where) == ("entities-in-given-words", 1, "f:1")
    assert tags_of(read) == ["O", "O", "B-LOC", "B-LOC"]


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("Zürich, Köln, Oslo", [(9, 14), (16, 20)]),
        ("Москва и Минск", [(0, 12), (16, 26)]),
    ],
)
def test_offsets_that_count_bytes_are_refused(text: str, spans: list[tuple[int, int]]) -> None:
    with pytest.raises(
        ValueError, match="the offsets of the entities count bytes of UTF-8, expected characters"
    ):
        SPEC.read(entities(text, *((*span, "LOC") for span in spans)))


def test_an_entity_outside_the_text_that_fits_in_bytes_is_refused_with_the_unit() -> None:
    with pytest.raises(ValueError, match=r"is empty or outside the text .* its offsets count bytes of UTF-8"):
        SPEC.read(entities("über Köln", (6, 11, "LOC")))


@st.composite
def marked(draw: st.DrawFn) -> dict[str, Any]:
    """A text with entities that do not overlap and begin and end anywhere but in white space."""
    text = draw(st.text(alphabet="aB. '東🙂-서ก/\u00ad", max_size=20))
    edges = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    spans = [(start, end, "LOC") for start, end in zip(edges[::2], edges[1::2], strict=False)]
    return entities(text, *(span for span in spans if text[span[0] : span[1]].strip()))


@settings(deadline=None)
@given(marked())
def test_every_entity_is_learnt_exactly_or_left_out(record: dict[str, Any]) -> None:
    example = SPEC.read(record)
    assert len(example.spans) == len(record["entities"])
    tags = tags_of(example)
    logits = logits_of(["O" if tag == "?" else tag for tag in tags])
    found = SPEC.decode(example, logits, LABELS, {})["entities"]
    learnt = {(entity["start"], entity["end"]) for entity in found}
    assert learnt <= set(example.spans)
    unreachable = SPEC.evaluate([example], [logits], LABELS, {})["unreachable"]
    assert len(learnt) + unreachable == len(example.spans)
    assert ("?" in tags) == (unreachable > 0)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, r"expected a list under 'words' or a string under 'text'; the record has \[\]"),
        ({"words": "Ada", "tags": ["O"]}, "expected a list of strings under 'words', found Ada"),
        ({"words": ["Ada"], "tags": [0]}, "the tags are integers; give their names in order with --labels"),
        ({"words": ["Ada"], "spaces": [1]}, r"expected a list of true and false under 'spaces', found \[1\]"),
        (
            {"words": ["Ada", "x"], "spaces": [True]},
            "expected one value under 'spaces' per word, found 1 for 2",
        ),
        ({"words": ["Ada", "x"], "tags": ["O"]}, "expected one tag per word, found 1 tags for 2 words"),
        ({"words": ["Ada", ""]}, "word 2 is ''"),
        ({"words": ["\u00a0"]}, "word 1 is '\\\\xa0'; expected at least one visible character"),
        ({"words": ["a\nb"]}, "word 1 is 'a\\\\nb'; expected at least one visible character"),
        ({"words": ["Ada"], "tags": ["PER"]}, "tag 1 is 'PER'; expected O, B-TYPE"),
        ({"text": "Ada", "entities": "PER"}, "expected a list under 'entities', found PER"),
        ({"text": "Ada", "entities": ["PER"]}, "expected an entity .*, found PER"),
        ({"text": "Ada", "entities": [{"start": 0, "end": 3}]}, "expected an entity .*, found {'start'"),
        (entities("Ada", (True, 3, "PER")), "expected an entity"),
        (entities("Ada", (0, 3, " ")), "expected an entity"),
        (entities("Ada", (0, 4, "PER")), "entity PER 0:4 is empty or outside the text of 3 characters"),
        (entities("Ada", (-1, 2, "PER")), "entity PER -1:2 is empty or outside"),
        (entities("Ada", (2, 2, "PER")), "entity PER 2:2 is empty or outside"),
        (entities("a  b", (1, 3, "PER")), "entity PER 1:3 is empty or outside"),
        (entities("Ada", (0, 2, "PER"), (1, 3, "LOC")), "entities PER 0:2 and LOC 1:3 overlap"),
    ],
)
def test_a_faulty_record_is_refused_with_what_was_expected(record: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SPEC.read(record)


def test_labels_are_o_then_begin_and_inside_of_each_type_sorted() -> None:
    rows = [{"words": ["a", "b"], "tags": tags} for tags in (["B-PER", "O"], ["O", "B-LOC"])]
    assert SPEC.learn_labels([*map(SPEC.read, rows), Example("z")]) == LABELS


def test_training_data_without_an_entity_is_refused() -> None:
    with pytest.raises(ValueError, match="no entity in the training data"):
        SPEC.learn_labels([Example("x", ()), Example("y")])


def test_targets_are_the_label_indices_of_the_words() -> None:
    example = SPEC.read({"words": ["a", "b", "c"], "tags": ["O", "B-PER", "I-PER"]})
    assert SPEC.targets(example, LABELS) == [0, 3, 4]


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (Example("x", ("ORG",), spans=((0, 1),)), "unknown entity type 'ORG'; known: LOC, PER"),
        (Example("x"), "neither tags nor entities"),
    ],
)
def test_an_unknown_or_missing_target_is_refused(example: Example, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SPEC.targets(example, LABELS)


@pytest.mark.parametrize(
    ("tags", "repaired"),
    [
        (["I-PER", "I-PER"], ["B-PER", "I-PER"]),
        (["B-PER", "I-LOC", "I-LOC"], ["B-PER", "B-LOC", "I-LOC"]),
        (["B-PER", "O", "I-PER"], ["B-PER", "O", "B-PER"]),
        (["B-PER", "B-PER", "I-PER"], ["B-PER", "B-PER", "I-PER"]),
        ([], []),
    ],
)
def test_an_inside_tag_that_continues_nothing_begins_an_entity(tags: list[str], repaired: list[str]) -> None:
    assert to_iob2(tags) == repaired


@settings(deadline=None)
@given(TAGS)
def test_repaired_tags_need_no_repair_and_keep_every_type(tags: list[str]) -> None:
    assert to_iob2(to_iob2(tags)) == to_iob2(tags)
    assert [tag[2:] for tag in to_iob2(tags)] == [tag[2:] for tag in tags]


def test_decode_gives_offsets_text_and_the_mean_probability_of_the_words_tags() -> None:
    rows = np.log(np.array([[2, 2, 2, 12, 2], [1, 1, 1, 1, 16], [16, 1, 1, 1, 1]], dtype=np.float32))
    example = Example("Ada  Lovelace wrote")
    assert SPEC.decode(example, rows, LABELS, {})["entities"] == [
        {
            "start": 0,
            "end": 13,
            "label": "PER",
            "text": "Ada  Lovelace",
            "score": pytest.approx((0.6 + 0.8) / 2),
        }
    ]


def test_decode_takes_the_most_probable_sequence_that_is_valid() -> None:
    rows = logits_of(["O", "I-PER"])
    rows[0, LABELS.index("B-PER")] = rows[0].max() - 0.1  # nearly as probable, and valid before I-PER
    found = SPEC.decode(Example("Ada Lovelace"), rows, LABELS, {})["entities"]
    assert [(entity["text"], entity["label"]) for entity in found] == [("Ada Lovelace", "PER")]


def test_a_text_without_words_has_no_entities() -> None:
    assert SPEC.decode(Example(" "), logits_of([]), LABELS, {}) == {"entities": []}


@settings(deadline=None)
@given(st.text(max_size=30), st.data())
def test_entities_lie_in_the_text_in_order_and_apart(text: str, data: st.DataObject) -> None:
    shape = (len(SPEC.spans(Example(text))), len(LABELS))
    rows = data.draw(arrays(np.float32, shape, elements=st.floats(-50, 50, width=32)))
    found = json.loads(json.dumps(SPEC.decode(Example(text), rows, LABELS, {})))["entities"]
    edges = [edge for entity in found for edge in (entity["start"], entity["end"])]
    assert edges == sorted(edges)
    assert all(0 <= entity["start"] < entity["end"] <= len(text) for entity in found)
    assert all(text[entity["start"] : entity["end"]] == entity["text"] for entity in found)
    assert all(0 <= entity["score"] <= 1 + 1e-6 for entity in found)
