from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from onetrunk.core.tasks import Example
from onetrunk.core.tasks.guarded_calls import notes_on
from onetrunk.core.tasks.iob2 import to_iob2
from onetrunk.core.testing import check_task
from onetrunk.plugins.ner import SPEC, tasks

LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
TAGS = st.lists(st.sampled_from(LABELS), max_size=12)


def logits_of(tags: list[str] | tuple[str, ...], height: float = 9.0) -> np.ndarray:
    """Logits that prefer the tags, one row a word."""
    rows = np.zeros((len(tags), len(LABELS)), dtype=np.float32)
    rows[np.arange(len(tags)), [LABELS.index(tag) for tag in tags]] = height
    return rows


def entities(text: str, *spans: tuple[int, int, str]) -> dict[str, Any]:
    return {
        "text": text,
        "entities": [{"start": start, "end": end, "label": label} for start, end, label in spans],
    }


def texts(example: Example) -> list[str]:
    return [example.text[start:end] for start, end in example.words]


def test_the_task_follows_the_contract() -> None:
    tagged = [(["ada", "love", "london"], ["B-PER", "O", "B-LOC"]), (["book", "a", "table"], ["O", "O", "O"])]
    check_task(SPEC, [{"words": words, "tags": tags} for words, tags in tagged * 6])
    assert list(tasks()) == [SPEC]


@pytest.mark.parametrize("names", [("words", "tags"), ("tokens", "ner_tags")])
def test_words_are_joined_by_spaces_and_keep_their_spans(names: tuple[str, str]) -> None:
    example = SPEC.read({names[0]: ["Ada", "in", "London", "."], names[1]: ["B-PER", "O", "B-LOC", "O"]})
    assert example == Example(
        "Ada in London .", ("B-PER", "O", "B-LOC", "O"), ((0, 3), (4, 6), (7, 13), (14, 15))
    )


def test_tags_of_another_scheme_become_iob2() -> None:
    example = SPEC.read({"words": ["New", "York", "Ada"], "tags": ["I-LOC", "I-LOC", "S-PER"]})
    assert example.target == ("B-LOC", "I-LOC", "B-PER")


def test_tags_of_a_text_stand_for_its_chunks_between_white_space() -> None:
    example = SPEC.read({"text": "to  Ada's house", "label": "x", "tags": ["O", "B-PER", "O"]})
    assert (texts(example), example.target) == (["to", "Ada's", "house"], ("O", "B-PER", "O"))


def test_a_record_without_tags_and_entities_has_no_target() -> None:
    assert SPEC.read({"text": "Ada."}) == Example("Ada.")
    assert SPEC.read({"words": ["Ada", "."], "tags": None}) == Example("Ada .", None, ((0, 3), (4, 5)))


def test_entities_given_in_characters_become_tags_of_words() -> None:
    example = SPEC.read(entities("Ada Lovelace's London.", (15, 21, "LOC"), (0, 12, "PER")))
    assert texts(example) == ["Ada", "Lovelace", "'s", "London", "."]
    assert example.target == ("B-PER", "I-PER", "O", "B-LOC", "O")


def test_an_empty_list_of_entities_says_that_there_are_none() -> None:
    assert SPEC.read(entities("good film")).target == ("O", "O")


def test_an_entity_that_ends_within_a_word_takes_the_whole_word() -> None:
    example = SPEC.read(entities("a London-based firm", (2, 8, "LOC")))
    assert (texts(example), example.target) == (["a", "London-based", "firm"], ("O", "B-LOC", "O"))


def test_an_entity_is_widened_over_the_white_space_at_its_edges_to_no_other_word() -> None:
    assert SPEC.read(entities("in New York now", (2, 12, "LOC"))).target == ("O", "B-LOC", "I-LOC", "O")


def test_a_word_in_which_two_entities_meet_is_cut_at_the_second() -> None:
    example = SPEC.read(entities("the Paris-Berlin train", (4, 9, "LOC"), (10, 16, "PER")))
    assert texts(example) == ["the", "Paris-", "Berlin", "train"]
    assert example.target == ("O", "B-LOC", "B-PER", "O")


def test_an_entity_that_is_widened_is_a_remark_with_what_it_became() -> None:
    example = SPEC.read(entities("a New York-based firm", (2, 10, "LOC"), (17, 21, "ORG")))
    assert example.remarks == ("LOC 2:10 became 2:16, 'New York-based'",)


@pytest.mark.parametrize("span", [(3, 11), (2, 12)])
def test_an_entity_that_already_covers_whole_words_is_no_remark(span: tuple[int, int]) -> None:
    assert SPEC.read(entities("in New York now", (*span, "LOC"))).remarks == ()


def test_the_note_counts_the_entities_that_were_widened_and_shows_the_first() -> None:
    rows = [
        entities("Ada was here", (0, 3, "PER")),
        entities("a London-based firm and Paris-based one", (2, 8, "LOC"), (24, 29, "LOC")),
        {"text": "no tags"},
    ]
    read = [replace(SPEC.read(row), where=f"f:{line}") for line, row in enumerate(rows, 1)]
    assert notes_on(SPEC, read) == (
        "2 of 3 entities were widened to whole words for training and metrics; first: f:2: LOC 2:8 became 2:14, "
        "'London-based'",
    )
    assert notes_on(SPEC, read[:1]) == ()


@st.composite
def marked(draw: st.DrawFn) -> dict[str, Any]:
    """A text with entities that do not overlap and begin and end anywhere but in white space."""
    text = draw(st.text(alphabet="aB. '東🙂-", max_size=20))
    edges = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    spans = [(start, end, "LOC") for start, end in zip(edges[::2], edges[1::2], strict=False)]
    return entities(text, *(span for span in spans if text[span[0] : span[1]].strip()))


@settings(deadline=None)
@given(marked())
def test_no_entity_is_lost_and_each_covers_its_characters(record: dict[str, Any]) -> None:
    example = SPEC.read(record)
    found = SPEC.decode(example, logits_of(example.target), LABELS, {})["entities"]
    assert len(found) == len(record["entities"])
    for given_, read in zip(record["entities"], found, strict=True):
        lost = example.text[given_["start"] : read["start"]] + example.text[read["end"] : given_["end"]]
        assert not lost.strip()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, r"expected a list under 'words' or a string under 'text'; the record has \[\]"),
        ({"words": "Ada", "tags": ["O"]}, "expected a list of strings under 'words', found Ada"),
        ({"words": ["Ada"], "tags": [0]}, "the tags are integers; give their names in order with --labels"),
        ({"words": ["Ada"], "tags": [0.5]}, r"expected a list of strings under 'tags', found \[0.5\]"),
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
    assert SPEC.learn_labels([Example("x", ("B-PER", "O")), Example("y", ("B-LOC",)), Example("z")]) == LABELS


def test_training_data_without_an_entity_is_refused() -> None:
    with pytest.raises(ValueError, match="no entity in the training data"):
        SPEC.learn_labels([Example("x", ("O",)), Example("y")])


def test_targets_are_the_label_indices_of_the_words() -> None:
    assert SPEC.targets(Example("a b c", ("O", "B-PER", "I-PER")), LABELS) == [0, 3, 4]


def test_an_inside_tag_of_a_type_is_known_although_the_data_only_begins_it() -> None:
    labels = SPEC.learn_labels([Example("x", ("B-PER",))])
    assert SPEC.targets(Example("a b", ("B-PER", "I-PER")), labels) == [1, 2]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (("B-ORG",), "unknown entity type 'ORG'; known: LOC, PER"),
        (None, "neither tags nor entities"),
    ],
)
def test_an_unknown_or_missing_target_is_refused(target: tuple[str, ...] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SPEC.targets(Example("x", target), LABELS)


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


def test_logits_for_another_number_of_words_are_refused() -> None:
    with pytest.raises(ValueError, match="1 rows of logits for 2 words"):
        SPEC.evaluate([Example("a b", ("O", "B-PER"))], [logits_of(["O"])], LABELS, {})
    with pytest.raises(ValueError, match="3 rows of logits for 2 words"):
        SPEC.decode(Example("a b"), logits_of(["O"] * 3), LABELS, {})


GOLD = (["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-PER"])
PREDICTED = (["B-PER", "I-PER", "O", "B-PER"], ["B-LOC", "B-PER"])


def examples(*tags: list[str]) -> list[Example]:
    return [Example(" ".join("x" * len(row)), tuple(row)) for row in tags]


def test_figures_over_entities_are_those_computed_by_hand() -> None:
    metrics = SPEC.evaluate(examples(*GOLD), [logits_of(row) for row in PREDICTED], LABELS, {})
    assert (metrics["precision"], metrics["recall"]) == (2 / 4, pytest.approx(2 / 3))
    assert metrics["f1"] == pytest.approx(4 / 7)
    assert metrics["per_type"] == {
        "LOC": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
        "PER": {"precision": pytest.approx(2 / 3), "recall": 1.0, "f1": pytest.approx(0.8), "support": 2},
    }
    assert SPEC.primary in json.loads(json.dumps(metrics))


@pytest.mark.parametrize("name", ["micro avg", "macro avg", "big avg", "a-b", "-"])
def test_a_type_of_any_name_has_its_row(name: str) -> None:
    labels = SPEC.learn_labels(examples([f"B-{name}", "B-PER"]))
    rows = np.eye(len(labels), dtype=np.float32)[[labels.index(f"B-{name}"), labels.index("O")]]
    metrics = SPEC.evaluate(examples([f"B-{name}", "B-PER"]), [rows], labels, {})
    assert metrics["per_type"] == {
        name: {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1},
        "PER": {"precision": None, "recall": 0.0, "f1": 0.0, "support": 1},
    }
    assert metrics["f1"] == pytest.approx(2 / 3)


@settings(deadline=None)
@given(st.lists(st.tuples(TAGS, st.randoms(use_true_random=False)), min_size=1, max_size=4))
def test_figures_are_those_of_seqeval(rows: list[tuple[list[str], Any]]) -> None:
    gold = [to_iob2(tags) for tags, _ in rows]
    predicted = [
        to_iob2([tag if draw.random() < 0.6 else draw.choice(LABELS) for tag in tags]) for tags, draw in rows
    ]
    assume(
        any(tag != "O" for tags in [*gold, *predicted] for tag in tags)
    )  # seqeval has no answer to nothing
    report = classification_report(
        gold, predicted, mode="strict", scheme=IOB2, output_dict=True, zero_division=0
    )
    metrics = SPEC.evaluate(examples(*gold), [logits_of(tags) for tags in predicted], LABELS, {})
    for name, row in {"micro avg": metrics, **metrics["per_type"]}.items():
        own = [
            row[key] or 0.0 for key in ("precision", "recall", "f1")
        ]  # seqeval has 0 for what has no value
        assert own == pytest.approx([report[name][key] for key in ("precision", "recall", "f1-score")])
    assert list(metrics["per_type"]) == [name for name in report if not name.endswith(" avg")]


def test_token_metrics_leave_out_o() -> None:
    token = SPEC.evaluate(examples(*GOLD), [logits_of(row) for row in PREDICTED], LABELS, {})["token"]
    assert token == pytest.approx(
        {
            "accuracy": 4 / 6,
            "precision_micro_without_o": 3 / 5,
            "recall_micro_without_o": 3 / 4,
            "f1_micro_without_o": 6 / 9,
        }
    )


def test_an_entity_with_one_word_missing_does_not_count() -> None:
    gold, predicted = ["B-PER", "I-PER", "I-PER"], ["B-PER", "I-PER", "O"]
    metrics = SPEC.evaluate(examples(gold), [logits_of(predicted)], LABELS, {})
    assert metrics["f1"] == 0.0
    assert metrics["token"]["f1_micro_without_o"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("gold", "predicted", "figures"),
    [
        (["O", "O"], ["O", "O"], (None, None, None)),
        (["O", "O"], ["B-PER", "O"], (0.0, None, 0.0)),
        (["B-PER", "O"], ["O", "O"], (None, 0.0, 0.0)),
    ],
)
def test_a_figure_that_divides_by_nothing_has_no_value_and_gives_no_warning(
    gold: list[str], predicted: list[str], figures: tuple[float | None, ...]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = SPEC.evaluate(examples(gold), [logits_of(predicted)], LABELS, {})
    for row in (metrics, *metrics["per_type"].values()):
        assert (row["precision"], row["recall"], row["f1"]) == figures
    assert tuple(metrics["token"].values())[1:] == figures


@settings(deadline=None)
@given(st.lists(TAGS.filter(bool), min_size=1, max_size=4))
def test_evaluate_finds_exactly_the_entities_of_decode(rows: list[list[str]]) -> None:
    rows = [to_iob2(row) for row in rows]
    gold = examples(*rows)
    found = [
        SPEC.decode(example, logits_of(row), LABELS, {})["entities"]
        for example, row in zip(gold, rows, strict=True)
    ]
    metrics = SPEC.evaluate(gold, [logits_of(row) for row in rows], LABELS, {})
    assert sum(row["support"] for row in metrics["per_type"].values()) == sum(map(len, found))
    assert metrics["f1"] == (1.0 if any(found) else None)
