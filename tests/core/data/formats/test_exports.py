"""Exports of annotation tools: which one wrote a file, what is left out, and what cannot be read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetrunk.core.data.dataset import load_dataset
from onetrunk.core.data.formats.base import Source
from onetrunk.core.data.formats.exports import EXPORTS, detect, records_of
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.data.readers import READERS, read_records
from onetrunk.core.errors import DataError
from onetrunk.plugins import intent, ner
from tests.core.data.formats.thousand_rows import labels_of, notes_of, spans_of
from tests.core.data.sample_tasks import write

ANNOTATED = {"id": 1, "value": {"start": 0, "end": 3, "text": "Ada", "labels": ["PER"]}, "type": "labels"}
PER = ((0, 3, "PER"),)
KEYS = ("text", "data", "label", "labels", "entities", "annotations", "spans", "answer", "accept", "options")
MORE_KEYS = ("fields", "responses", "suggestions", "annotation", "prediction", "cats", "paragraphs", "result")
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from((*KEYS, *MORE_KEYS, "start", "end", "value")), inner, max_size=4)
    ),
    max_leaves=12,
)


def jsonl(path: Path, *values: Any) -> Path:
    return write(path, "".join(json.dumps(value) + "\n" for value in values))


def studio(*annotations: Any, **data: Any) -> Any:
    return {"id": 7, "data": data or {"text": "Ada sings"}, "annotations": list(annotations)}


@pytest.mark.parametrize(
    ("value", "tool"),
    [
        ({"text": "x", "label": [[0, 1, "A"]]}, "doccano"),
        ({"text": "x", "entities": [[0, 1, "A"]]}, "doccano"),
        ({"text": "x", "entities": [{"label": "A", "start_offset": 0, "end_offset": 1}]}, "doccano"),
        ({"data": "x", "label": ["A"]}, "doccano"),
        ({"data": {"text": "x"}, "annotations": []}, "label-studio"),
        ({"text": "x", "label": [{"start": 0, "end": 1, "labels": ["A"]}]}, "label-studio"),
        ({"text": "x", "tokens": [], "spans": [{"start": 0, "end": 1, "label": "A"}]}, "prodigy"),
        ({"text": "x", "answer": "accept"}, "prodigy"),
        ({"fields": {"text": "x"}, "responses": {}}, "argilla"),
        ({"text": "x", "annotation": None, "prediction": []}, "argilla"),
        ({"text": "x", "label.responses": None, "label.suggestion": "a"}, "argilla"),
        (["x", {"entities": []}], "spacy"),
        ({"text": "x", "cats": {"A": 1.0}}, "spacy"),
        ({"id": 0, "paragraphs": []}, "spacy"),
        ({"id": 0, "text": "x", "label": []}, None),
        ({"text": "x", "label": "A"}, ""),
        ({"text": "x", "label": ["A"]}, ""),
        ({"text": "x", "entities": [{"start": 0, "end": 1, "label": "A"}]}, ""),
        ({"tokens": ["x"], "ner_tags": ["O"]}, ""),
        ({"text": "x", "answer": "42"}, ""),
        ({"text": "x", "spans": [{"start": 0, "end": 1, "label": "A"}]}, ""),
        ("x", ""),
    ],
)
def test_the_keys_of_a_record_show_the_tool_that_wrote_it(value: Any, tool: str | None) -> None:
    assert detect(value) == tool


def test_the_tool_is_a_note_with_the_record_that_shows_it(tmp_path: Path) -> None:
    undecided, shows = {"id": 1, "text": "x", "label": []}, {"id": 2, "text": "Ada", "label": [[0, 3, "PER"]]}
    path = jsonl(tmp_path / "a.jsonl", undecided, shows)
    assert spans_of(path) == [("x", ()), ("Ada", PER)]
    note = "read as an export of doccano, by its keys; --format names another format"
    assert notes_of(path) == {"format": f"note: {path}: {note}; first: {path}:2"}


def test_the_option_names_the_tool_and_plain_json(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"text": "x", "answer": "reject", "label": "a"})
    assert labels_of(path, ReadOptions(format="jsonl")) == [("x", "a")]
    assert labels_of(path, ReadOptions(format="doccano")) == [("x", "a")]
    with pytest.raises(DataError, match="has no records"):
        labels_of(path, ReadOptions(format="prodigy"))


def test_what_is_no_list_of_a_tool_stays_as_it_is(tmp_path: Path) -> None:
    record = {"text": "x", "label": "a", "answer": "42", "spans": [], "meta": {"data": 1}}
    assert [each.record for each in read_records(jsonl(tmp_path / "a.jsonl", record))] == [record]


def test_other_keys_of_a_record_stay(tmp_path: Path) -> None:
    value = {"id": 7, "text": "Ada", "label": [[0, 3, "PER"]], "meta": {"a": 1}}
    (source,) = read_records(jsonl(tmp_path / "a.jsonl", value))
    assert {key: source.record[key] for key in ("id", "meta")} == {"id": 7, "meta": {"a": 1}}


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (
            [{"text": "Ada", "entities": [[0, 3, "PER"]], "relations": [{"id": 1}]}],
            "relations-ignored",
            "records with relations, which are ignored: 1; first: .*:1",
        ),
        (
            [{"text": "x", "answer": "accept"}, *[{"text": "y", "answer": "reject", "spans": []}] * 2],
            "answer-not-accepted",
            "records with the answer 'reject' are left out: 2; first: .*:2",
        ),
        (
            [{"text": "Ada", "_view_id": "ner", "answer": "accept", "spans": []}],
            "binary-spans",
            "records answer one span alone; other words count as outside of entities: 1",
        ),
        (
            [studio({"result": [ANNOTATED]}), studio({"was_cancelled": True, "result": []})],
            "cancelled-tasks",
            "tasks whose annotations are all cancelled are left out: 1; first: .*:2",
        ),
        (
            [studio({"result": [ANNOTATED]}, {"result": []})],
            "several-annotations",
            "the first that is not cancelled counts: 1",
        ),
        (
            [studio({"result": [ANNOTATED, {"type": "relation", "from_id": "a"}]})],
            "results-ignored",
            "results of the type 'relation' are ignored: 1",
        ),
        (
            [studio({"result": [{"type": "choices", "value": {"start": 0, "end": 3, "choices": ["a"]}}]})],
            "results-ignored",
            "results of the type 'choices' are ignored: 1",
        ),
        (
            [studio({"result": [{"type": "labels", "value": {"start": 0, "end": 3, "labels": []}}]})],
            "results-ignored",
            "results of the type 'labels' are ignored: 1",
        ),
        (
            [{"fields": {"text": "x"}, "responses": {}, "suggestions": {"label": {"value": "a"}}}],
            "suggestions-ignored",
            "they are read without a label: 1",
        ),
        (
            [{"fields": {"text": "x"}, "responses": {"a": [{"value": "u"}, {"value": "v"}]}}],
            "several-annotations",
            "records with several responses, of which the first counts: 1",
        ),
        (
            [
                {"fields": {"text": "x"}, "responses": {}},
                {"fields": {"text": "y"}, "responses": {}, "status": "discarded"},
            ],
            "discarded-records",
            "discarded records are left out: 1",
        ),
    ],
)
def test_what_is_left_out_is_a_note_with_count_and_place(
    tmp_path: Path, values: list[Any], kind: str, message: str
) -> None:
    found = notes_of(jsonl(tmp_path / "a.jsonl", *values))
    assert re.search(message, found[kind])


def test_a_cancelled_annotation_gives_way_to_the_next(tmp_path: Path) -> None:
    cancelled = {"was_cancelled": True, "result": []}
    path = jsonl(tmp_path / "a.jsonl", studio(cancelled, {"was_cancelled": False, "result": [ANNOTATED]}))
    assert spans_of(path) == [("Ada sings", PER)]


def test_a_task_without_annotations_has_no_target(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", studio({"result": []}), studio())
    assert spans_of(path) == [("Ada sings", ()), ("Ada sings", None)]


def test_a_region_of_two_types_is_two_entities_that_overlap(tmp_path: Path) -> None:
    region = {"value": {"start": 0, "end": 3, "labels": ["PER", "POET"]}, "type": "labels"}
    with pytest.raises(DataError, match="entities PER 0:3 and POET 0:3 overlap"):
        spans_of(jsonl(tmp_path / "a.jsonl", studio({"result": [region]})))


def test_the_options_choose_text_and_question(tmp_path: Path) -> None:
    results = [
        {"type": "choices", "from_name": name, "value": {"choices": [choice]}}
        for name, choice in (("mood", "good"), ("topic", "film"))
    ]
    path = jsonl(tmp_path / "a.jsonl", studio({"result": results}, title="x", body="y"))
    assert labels_of(path, ReadOptions(text_column="body", label_column="topic")) == [("y", "film")]
    with pytest.raises(
        DataError, match=r"expected the text under 'text'; name it with --text-column.*title, body"
    ):
        labels_of(path)
    with pytest.raises(DataError, match=r"answers to the questions mood, topic; name .* --label-column"):
        labels_of(path, ReadOptions(text_column="body"))


def test_responses_of_feedback_datasets_count_if_they_are_submitted(tmp_path: Path) -> None:
    draft, final = (
        {"user_id": "u", "status": status, "values": {"mood": {"value": mood}}}
        for status, mood in (("draft", "bad"), ("submitted", "good"))
    )
    value = {"fields": {"text": "x"}, "responses": [draft, final], "suggestions": []}
    assert labels_of(jsonl(tmp_path / "a.jsonl", value)) == [("x", "good")]


def test_responses_in_columns_of_the_hub_are_read(tmp_path: Path) -> None:
    columns = {"mood.responses": ["bad", "good"], "mood.responses.status": ["discarded", "submitted"]}
    value = {
        "id": "1",
        "status": "completed",
        "_server_id": "2",
        "review": "x",
        **columns,
        "mood.suggestion": "bad",
    }
    assert labels_of(jsonl(tmp_path / "a.jsonl", value)) == [("x", "good")]
    assert labels_of([{**value, "mood.responses": None, "mood.responses.status": None}]) == [("x", None)]
    with pytest.raises(DataError, match=r"expected lists of one length under 'mood\.responses'"):
        labels_of([{**value, "mood.responses": ["bad"]}])


def test_json_of_spacy_2_gives_words_tags_spaces_and_the_category(tmp_path: Path) -> None:
    tokens = [
        {"id": at, "orth": word, "ner": tag} for at, (word, tag) in enumerate([("Ada", "U-PER"), ("!", "O")])
    ]
    paragraph = {"raw": "Ada!", "sentences": [{"tokens": tokens}], "cats": [{"label": "x", "value": 1.0}]}
    path = write(tmp_path / "a.json", json.dumps([{"id": 0, "paragraphs": [paragraph]}], indent=2))
    (source,) = read_records(path)
    expected = {"words": ["Ada", "!"], "tags": ["U-PER", "O"], "spaces": [False, False]}
    assert source.record == {**expected, "text": "Ada!", "label": ["x"]}
    tokens[0]["ner"] = "-"
    write(path, json.dumps([{"id": 0, "paragraphs": [paragraph]}]))
    with pytest.raises(DataError, match="1 of 2 tokens have no entity annotation"):
        list(read_records(path))


def test_a_docbin_is_refused_with_the_code_that_converts_it(tmp_path: Path) -> None:
    path = write(tmp_path / "train.spacy", "x")
    with pytest.raises(DataError, match=r"only spaCy can read; convert it .*from_disk\('train.spacy'\)"):
        list(read_records(path))


@pytest.mark.parametrize(
    ("format_", "value", "message"),
    [
        (
            "doccano",
            {"txt": "x"},
            "expected a string under 'text' or 'data'.*found txt.*an export of doccano",
        ),
        ("doccano", {"text": "x", "label": {"a": 1}}, "expected a list under 'label'"),
        ("prodigy", {"html": "x"}, "expected a string under 'text', as Prodigy writes it"),
        (
            "prodigy",
            {"text": "x", "answer": "maybe"},
            "the answer is 'maybe'; expected one of accept, reject",
        ),
        ("prodigy", {"text": "x", "accept": "a"}, "expected a list under 'accept'"),
        ("label-studio", {"data": {"text": "x"}, "annotations": [1]}, "expected a task of Label Studio"),
        ("label-studio", {"data": {"text": "x"}, "annotations": [{"result": {"a": 1}}]}, "expected a task"),
        ("label-studio", {"text": "x", "mood": "a", "topic": "b"}, "answers to the questions mood, topic"),
        ("spacy", ["x", {"entities": []}, 3], "expected .text, .*found"),
        ("spacy", {"text": "x", "cats": {"a": "yes"}}, "expected numbers by category under 'cats'"),
        ("spacy", {"paragraphs": [{"raw": "x"}]}, "a paragraph has no 'sentences'"),
        (
            "argilla",
            {"fields": {"text": "x"}, "responses": "a"},
            "expected an object or a list under 'responses'",
        ),
        (
            "argilla",
            {"fields": {"a": "x", "b": "y"}, "responses": {}},
            "name it with --text-column; found a, b",
        ),
    ],
)
def test_a_record_that_a_tool_does_not_write_is_refused(
    tmp_path: Path, format_: str, value: Any, message: str
) -> None:
    path = jsonl(tmp_path / "a.jsonl", value)
    with pytest.raises(DataError, match=rf"a\.jsonl:1: .*{message}"):
        list(read_records(path, ReadOptions(format=format_)))


SPAN = {"start": 0, "end": 3, "label": "PER"}
WHOLE: dict[str, Any] = {
    "doccano": {"text": "Ada", "entities": [{"id": 1, **SPAN}], "cats": ["a"], "relations": [{"id": 1}]},
    "prodigy": {
        "text": "x",
        "spans": [SPAN],
        "options": [{"id": 1, "text": "a"}],
        "accept": [1],
        "answer": "accept",
    },
    "label-studio": studio({"was_cancelled": False, "result": [ANNOTATED, {"value": {"choices": ["a"]}}]}),
    "spacy": {
        "paragraphs": [{"raw": "x", "sentences": [{"tokens": [{"orth": "x", "ner": "O"}]}], "cats": [SPAN]}]
    },
    "argilla": {"fields": {"text": "x"}, "responses": {"a": [{"value": [SPAN], "status": "submitted"}]}},
}


def damaged(value: Any, keys: list[Any], new: Any) -> Any:
    """Return `value` with `new` at the place that `keys` choose."""
    if not keys or not isinstance(value, dict | list) or not value:
        return new
    key = keys[0] % len(value)
    if isinstance(value, list):
        return [damaged(each, keys[1:], new) if at == key else each for at, each in enumerate(value)]
    return {
        name: damaged(each, keys[1:], new) if at == key else each
        for at, (name, each) in enumerate(value.items())
    }


@pytest.mark.parametrize("tool", WHOLE)
@given(
    keys=st.lists(st.integers(0, 9), max_size=8), new=ANY | st.just([{"label": []}]) | st.just({"label": {}})
)
@settings(max_examples=200, deadline=None)
def test_a_record_of_a_tool_with_one_wrong_value_is_read_or_refused(
    tool: str, keys: list[int], new: Any
) -> None:
    found = records_or_fault(tool, damaged(WHOLE[tool], keys, new))
    assert isinstance(found, list) or (found.where == "list:row 4" and "\n" not in str(found))


def records_or_fault(tool: str, value: Any) -> list[Any] | DataError:
    try:
        return list(records_of(Source([], in_rows=True), tool, iter([(4, value)])))
    except DataError as fault:
        return fault


@pytest.mark.parametrize("tool", EXPORTS)
@given(value=ANY)
@settings(max_examples=150, deadline=None)
def test_any_value_gives_records_or_one_line_that_names_its_row(tool: str, value: Any) -> None:
    found = records_or_fault(tool, value)
    if isinstance(found, DataError):
        assert found.where == "list:row 4"
        assert "\n" not in str(found)
    else:
        assert all(isinstance(record, dict) for _, record in found)


@pytest.mark.parametrize("spec", [ner.SPEC, intent.SPEC], ids=["ner", "intent"])
@given(value=ANY)
@settings(max_examples=150, deadline=None)
def test_any_object_in_python_is_read_or_refused_with_its_row(spec: Any, value: Any) -> None:
    row = {"text": "Ada sings", **value} if isinstance(value, dict) else value
    try:
        examples = load_dataset(spec, [row]).examples
        places = {example.where for example in examples}
    except DataError as fault:
        places = {fault.where}
    assert places <= {"list", "list:row 1"}


def test_every_format_has_a_name_for_the_option() -> None:
    expected = {
        "jsonl",
        "json",
        "csv",
        "tsv",
        "conll",
        "conllu",
        "parquet",
        "arrow",
        "rasa",
        "docbin",
        *EXPORTS,
    }
    assert set(READERS) == expected
