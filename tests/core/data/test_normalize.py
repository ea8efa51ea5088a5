"""Labels and tags in one form for all file formats, and names of integers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from onetrunk.core.data.dataset import Dataset, load_dataset
from onetrunk.core.data.label_names import names_in_features, read_label_names
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.errors import DataError, UsageError
from onetrunk.plugins import intent, ner
from tests.core.data.sample_tasks import jsonl, write

NAMES = ("O", "B-PER", "I-PER")
TAGGED = {"tokens": ["Ada", "Byron", "sings"], "ner_tags": [1, 2, 0]}
TARGET = ("PER",)


def labels(data: Any, options: ReadOptions = AS_WRITTEN) -> Dataset:
    return load_dataset(intent.SPEC, data, options)


def targets(data: Any, options: ReadOptions = AS_WRITTEN) -> list[Any]:
    return [example.target for example in labels(data, options).examples]


def spelling_notes(data: Any) -> list[str]:
    return [note.message for note in labels(data).notes if note.kind == "label-spellings"]


def test_booleans_are_one_label_in_json_csv_and_parquet(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"text": "x", "label": True}, {"text": "y", "label": False}])
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    csv = write(tmp_path / "a.csv", "text,label\nx,True\ny,FALSE\n")
    json_ = jsonl(tmp_path / "a.jsonl", [{"text": "x", "label": True}, {"text": "y", "label": "false"}])
    assert targets(csv) == targets(json_) == targets(tmp_path / "a.parquet") == ["true", "false"]


def test_numbers_are_one_label_in_json_csv_and_parquet(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"text": "x", "label": 1.0}, {"text": "y", "label": 2.0}])
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    csv = write(tmp_path / "a.csv", "text,label\nx,1\ny,2.0\n")
    json_ = jsonl(tmp_path / "a.jsonl", [{"text": "x", "label": 1}, {"text": "y", "label": "2"}])
    assert targets(csv) == targets(json_) == targets(tmp_path / "a.parquet") == ["1", "2"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([True, "true"], ['the label true is spelled true, "true", which is one label']),
        (["True", "b"], ['the label true is spelled "True", which is one label']),
        ([1, 1.0, "1", "1.0"], ['the label 1 is spelled 1, 1.0, "1", "1.0", which is one label']),
        ([True, True], []),
        (["a", " a "], []),
        ([1, 2], []),
        (["1.5", "1.50"], []),
    ],
)
def test_spellings_of_one_label_are_noted(values: list[Any], message: list[str]) -> None:
    assert spelling_notes([{"text": "x", "label": value} for value in values]) == message


def test_a_list_of_one_is_the_label_and_an_empty_one_is_none() -> None:
    rows = [{"text": "x", "label": ["a"]}, {"text": "x", "labels": ["b"]}, {"text": "x", "labels": "c"}]
    assert targets([*rows, {"text": "x", "label": []}]) == ["a", "b", "c", None]


def test_several_labels_are_refused_for_a_task_with_one() -> None:
    with pytest.raises(DataError, match=r"row 1: expected one label, found 2: \['a', 'b'\]; keep one"):
        labels([{"text": "x", "label": ["a", "b"]}])


@pytest.mark.parametrize("key", ["tags", "ner_tags"])
def test_integer_tags_take_the_names_of_the_option(key: str) -> None:
    row = {"words": TAGGED["tokens"], key: TAGGED["ner_tags"]}
    (example,) = load_dataset(ner.SPEC, [row], ReadOptions(labels=NAMES)).examples
    assert example.target == TARGET


def test_integer_tags_without_names_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [TAGGED])
    with pytest.raises(
        DataError, match=r"a\.jsonl:1: the tags are integers; give .* --labels .*dataset_info\.json"
    ):
        load_dataset(ner.SPEC, path)


def test_the_names_are_in_the_dataset_info_beside_the_file(tmp_path: Path) -> None:
    features = {"ner_tags": [{"names": NAMES, "_type": "ClassLabel"}], "label": {"names": ["good", "bad"]}}
    write(tmp_path / "dataset_info.json", json.dumps({"features": features}))
    path = jsonl(tmp_path / "train.jsonl", [{**TAGGED, "text": "x", "label": 1}])
    assert load_dataset(ner.SPEC, path).examples[0].target == TARGET
    assert targets(path) == ["bad"]


def test_the_option_counts_before_the_names_of_the_file(tmp_path: Path) -> None:
    write(tmp_path / "dataset_info.json", json.dumps({"features": {"label": {"names": ["good", "bad"]}}}))
    path = jsonl(tmp_path / "train.jsonl", [{"text": "x", "label": 0}])
    assert targets(path, ReadOptions(labels=("fine", "awful"))) == ["fine"]


def test_integers_of_csv_take_names_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\nx,0\ny,1\nz,b\n")
    assert targets(path, ReadOptions(labels=("a", "b"))) == ["a", "b", "b"]


def test_an_integer_that_pandas_made_a_float_has_a_name() -> None:
    assert targets(
        [{"text": "x", "label": 1.0}, {"text": "x", "label": None}], ReadOptions(labels=("a", "b"))
    ) == [
        "b",
        None,
    ]


def test_minus_one_is_no_label() -> None:
    assert targets(
        [{"text": "x", "label": -1}, {"text": "x", "label": 1}], ReadOptions(labels=("a", "b"))
    ) == [
        None,
        "b",
    ]


@pytest.mark.parametrize("number", [2, -2, 10**30])
def test_an_integer_without_a_name_is_refused(number: int) -> None:
    with pytest.raises(DataError, match=rf"row 1: 'label' has {number}, but there are 2 names, for 0 to 1"):
        labels([{"text": "x", "label": number}], ReadOptions(labels=("a", "b")))


def test_a_number_is_no_integer_for_a_regression_target() -> None:
    from dataclasses import replace

    from onetrunk.core.tasks import Example

    score = replace(intent.SPEC, name="score", read=lambda row: Example(row["text"], row["label"]))
    found = load_dataset(score, [{"text": "x", "label": 1.0}, {"text": "x", "label": 2}]).examples
    assert [(example.target, type(example.target)) for example in found] == [(1.0, float), (2, int)]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "O\nB-PER\n\nTom, Dick\n", ("O", "B-PER", "Tom, Dick")),
        ("a.json", '["O", "Tom, Dick"]', ("O", "Tom, Dick")),
        ("dataset_info.json", '{"features": {"label": {"names": ["x", "y"]}, "text": {}}}', ("x", "y")),
    ],
)
def test_names_come_from_a_file(tmp_path: Path, name: str, content: str, expected: tuple[str, ...]) -> None:
    assert read_label_names(str(write(tmp_path / name, content))) == expected


def test_names_come_from_commas_or_a_json_list() -> None:
    assert read_label_names("O, B-PER") == ("O", "B-PER")
    assert read_label_names('["a, b", "c"]') == ("a, b", "c")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a,,b", "--labels: has an empty name"),
        ("a,b,a", "--labels: has the name 'a' twice"),
        ("[1]", "--labels: expected a list of names"),
        ("[", "--labels: is not JSON"),
        ("a" * 1001, "at most 1000 characters"),
    ],
)
def test_names_that_cannot_be_used_are_refused(value: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_label_names(value)


def test_a_missing_file_of_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--labels: no such file: .*names\.json"):
        read_label_names(str(tmp_path / "names.json"))


def test_a_dataset_info_with_two_lists_does_not_say_which_is_meant(tmp_path: Path) -> None:
    features = {"label": {"names": ["x"]}, "ner_tags": {"feature": {"names": ["O"]}}}
    file = write(tmp_path / "dataset_info.json", json.dumps({"features": features}))
    with pytest.raises(
        DataError, match="expected a list of names, or features with one; found names for: label, ner"
    ):
        read_label_names(str(file))


@pytest.mark.parametrize("content", ["{", "[]", '{"features": 3}', '{"features": {"label": {"names": [1]}}}'])
def test_a_broken_dataset_info_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    write(tmp_path / "dataset_info.json", content)
    with pytest.raises(DataError, match=r"features|dataset_info\.json: ") as caught:
        labels(jsonl(tmp_path / "a.jsonl", [{"text": "x", "label": 1}]))
    assert "\n" not in str(caught.value)


def test_a_broken_dataset_info_does_not_concern_labels_with_names(tmp_path: Path) -> None:
    write(tmp_path / "dataset_info.json", "{")
    assert targets(jsonl(tmp_path / "a.jsonl", [{"text": "x", "label": "a"}])) == ["a"]


@pytest.mark.parametrize("wrap", [lambda each: each, lambda each: [each], lambda each: {"feature": each}])
def test_features_of_each_version_are_read(wrap: Any) -> None:
    names = {"names": ["a", "b"], "_type": "ClassLabel"}
    assert names_in_features({"x": wrap(names), "y": {"dtype": "string"}, "z": 3}) == {"x": ("a", "b")}


def test_of_many_labels_with_other_spellings_five_are_named() -> None:
    rows = [{"text": str(row), "label": float(row)} for row in range(150)]
    notes = spelling_notes(rows)
    assert len(notes) == 6
    assert notes[-1] == "145 more labels have other spellings"
