"""Which tags, entities and labels are read where a file leaves it open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from onetrunk.core.data.dataset import Dataset, load_dataset
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.data.texts import load_unlabelled
from onetrunk.core.errors import DataError
from onetrunk.plugins import intent, ner
from tests.core.data.sample_tasks import jsonl, write

WORDS = {"tokens": ["Ada", "flew"]}
CHUNKS, PEOPLE = ["B-NP", "B-VP"], ["B-PER", "O"]
SPANS = [{"start": 0, "end": 3, "label": "PER"}]


def load(path: Path, **options: Any) -> Dataset:
    return load_dataset(ner.SPEC, path, ReadOptions(**options))


def kinds(dataset: Dataset) -> list[tuple[str, int, str]]:
    return [(note.kind, note.count, note.where.rpartition(":")[2]) for note in dataset.notes]


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({**WORDS, "tags": CHUNKS, "ner": PEOPLE}, "ner"),
        ({**WORDS, "tags": CHUNKS, "ner_tags": PEOPLE}, "ner_tags"),
        ({**WORDS, "labels": PEOPLE}, "labels"),
        ({**WORDS, "text": "Ada flew", "tags": CHUNKS, "entities": SPANS}, "entities"),
        ({"text": "Ada flew", "mentions": SPANS}, "mentions"),
    ],
)
def test_the_label_column_names_the_tags_or_the_entities(
    tmp_path: Path, row: dict[str, Any], key: str
) -> None:
    dataset = load(jsonl(tmp_path / "a.jsonl", [row]), label_column=key)
    assert [(each.text, each.target) for each in dataset.examples] == [("Ada flew", ("PER",))]
    assert kinds(dataset) == []


def test_the_integer_tags_of_the_label_column_get_their_names(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{**WORDS, "ner": [1, 0]}])
    assert load(path, label_column="ner", labels=("O", "B-PER")).examples[0].target == ("PER",)


def test_a_label_column_that_a_record_with_tags_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"a\.jsonl:1: --label-column names 'x'; the record has: tokens, tags"
    ):
        load(jsonl(tmp_path / "a.jsonl", [{**WORDS, "tags": PEOPLE}]), label_column="x")


def test_several_targets_are_noted(tmp_path: Path) -> None:
    rows = [{**WORDS, "tags": PEOPLE, "ner_tags": PEOPLE}, {**WORDS, "tags": CHUNKS, "ner_tags": PEOPLE}]
    dataset = load(jsonl(tmp_path / "a.jsonl", rows))
    assert dataset.examples[1].target == ("NP", "VP")
    assert kinds(dataset) == [("several-targets", 1, "2")]


@pytest.mark.parametrize("tags", [["1", "0"], [1, 0]])
def test_integer_tags_need_names_also_as_strings(tmp_path: Path, tags: list[Any]) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{**WORDS, "ner_tags": tags}])
    with pytest.raises(DataError, match=r"a\.jsonl:1: the tags are integers; give their names .*--labels"):
        load(path)
    assert load(path, labels=("O", "B-PER")).examples[0].target == ("PER",)


def test_lists_in_the_cells_of_a_table_are_json(tmp_path: Path) -> None:
    spans = json.dumps(SPANS).replace('"', '""')
    path = write(tmp_path / "a.csv", f'text,entities\nAda flew,"{spans}"\nhello,[]\n')
    assert [each.target for each in load(path).examples] == [("PER",), ()]
    path = write(tmp_path / "b.tsv", 'tokens\tner\n["Ada", "flew"]\t["B-PER", "O"]\n')
    assert load(path, label_column="ner").examples[0].target == ("PER",)


def test_an_export_of_label_studio_as_csv_is_read(tmp_path: Path) -> None:
    spans = '[{""start"":0,""end"":3,""text"":""Ada"",""labels"":[""PER""]}]'
    path = write(tmp_path / "a.csv", f'id,text,label\n1,Ada flew,"{spans}"\n')
    assert load(path, label_column="label").examples[0].target == ("PER",)


def test_words_to_predict_in_the_cells_of_a_table_are_json(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'words\n"[""Ada"", ""flew""]"\n')
    assert [each.text for each in load_unlabelled(path)] == ["Ada flew"]
    with pytest.raises(DataError, match=r"b\.csv:2: the list under 'words' is not JSON"):
        list(load_unlabelled(write(tmp_path / "b.csv", "words\n['Ada']\n")))


def test_python_lists_in_the_cells_of_a_table_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "tokens,tags\n\"['Ada']\",\"['B-PER']\"\n")
    with pytest.raises(DataError, match=r"a\.csv:2: the list under 'tokens' is not JSON: .*as JSONL"):
        load(path)


def test_labels_that_programs_write_for_none_are_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\na,x\nb,NA\nc,none\nd,NA\n")
    assert kinds(load_dataset(intent.SPEC, path)) == [("null-labels", 2, "3")]


def test_a_label_in_quotation_marks_has_one_spelling(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "a", "label": '"x"'}, {"text": "b", "label": "y\\z"}])
    assert kinds(load_dataset(intent.SPEC, path)) == []


def test_a_space_before_a_quotation_mark_is_noted(tmp_path: Path) -> None:
    dataset = load_dataset(intent.SPEC, write(tmp_path / "a.csv", 'text,label\na,x\nb, "x"\n'))
    assert ("quotation-marks", 1, "3") in kinds(dataset)
