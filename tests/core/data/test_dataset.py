"""`load_dataset`, `check_any_missing` and `check_targets`: each example and each fault has its file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from onetrunk.core.data.dataset import check_any_missing, check_targets, load_dataset
from onetrunk.core.errors import DataError, TaskSpecError
from onetrunk.core.tasks import Example
from tests.core.data.sample_tasks import TOPIC, WORDS, jsonl, write

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"


def test_every_example_has_the_line_of_its_record(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "x", "label": "a"}, {"text": "y", "label": "b"}])
    dataset = load_dataset(TOPIC, path)
    assert dataset.examples == (Example("x", "a", where=f"{path}:1"), Example("y", "b", where=f"{path}:2"))
    assert dataset.source == str(path)


def test_a_record_that_the_task_refuses_is_reported_with_its_line(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "x"}, {"label": "a"}])
    with pytest.raises(DataError, match=r"a\.jsonl:2: no 'text'; the record has label$"):
        load_dataset(TOPIC, path)


def test_five_faulty_lines_are_listed_and_the_others_counted(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"label": "a"}] * 17)
    with pytest.raises(DataError, match=r"a\.jsonl:1: no 'text'.*\n.*a\.jsonl:2: no 'text'") as caught:
        load_dataset(TOPIC, path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    assert lines[-1] == "… and 12 more"


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_a_wrong_header_is_one_fault_with_what_was_found_and_what_was_expected(
    tmp_path: Path, suffix: str, delimiter: str
) -> None:
    path = write(tmp_path / f"a.{suffix}", f"txt{delimiter}label\n" + f"x{delimiter}a\n" * 17)
    with pytest.raises(DataError, match="17 rows have the same fault") as caught:
        load_dataset(TOPIC, path)
    header, fault = "check the header (txt, label)", "no 'text'; the record has txt, label"
    remedy = "name its column with --text-column, or add a header such as text,label"
    assert caught.value.lines == (f"{path}: all 17 rows have the same fault; {header}: {fault}", remedy)


def test_a_label_column_that_every_row_lacks_is_one_fault(tmp_path: Path) -> None:
    dataset = load_dataset(TOPIC, write(tmp_path / "a.csv", "text,kind\n" + "x,a\n" * 17))
    with pytest.raises(DataError, match=r"header \(text, kind\): unknown label None; known: a$"):
        check_targets(TOPIC, dataset, ("a",))


def test_faults_of_a_table_are_listed_unless_all_rows_have_the_same_one(tmp_path: Path) -> None:
    dataset = load_dataset(TOPIC, write(tmp_path / "a.csv", "text,label\nx,b\nx,b\nx,a\n"))
    with pytest.raises(DataError, match=r"a\.csv:2: unknown label 'b'.*\n.*a\.csv:3: unknown label 'b'"):
        check_targets(TOPIC, dataset, ("a",))
    with pytest.raises(DataError, match=r"a\.csv:2: unknown label 'b'(.*\n)*.*a\.csv:4: unknown label 'a'"):
        check_targets(TOPIC, dataset, ("c",))


def test_a_table_of_one_faulty_row_has_the_fault_at_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.csv:2: no 'text'; the record has txt\nname its column"):
        load_dataset(TOPIC, write(tmp_path / "a.csv", "txt\nx\n"))


def test_a_bug_in_read_of_a_task_is_reported_with_its_line_of_code_and_the_record(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "x"}])
    told = r"task 'words': read raises KeyError: 'words' \(.*sample_tasks.py:\d+\) for the record at .*a.jsonl:1$"
    with pytest.raises(TaskSpecError, match=told) as caught:
        load_dataset(WORDS, path)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_bug_in_targets_of_a_task_is_reported_with_the_record(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"words": ["x"], "tags": ["O"]}, {"words": ["x"], "tags": 7}])
    with pytest.raises(
        TaskSpecError, match=r"targets raises TypeError: 'int' .* for the record at .*a.jsonl:2$"
    ):
        check_targets(WORDS, load_dataset(WORDS, path), ("O",))


def test_missing_targets_are_named_with_their_lines_before_there_are_labels(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "x", "label": "a"}, {"text": "y"}, {"text": "z"}])
    with pytest.raises(
        DataError, match=r"a\.jsonl:2: unknown label None.*\n.*a\.jsonl:3: unknown label None"
    ):
        check_any_missing(TOPIC, load_dataset(TOPIC, path))


def test_a_target_unknown_to_the_labels_is_named_with_its_line(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "dev.jsonl", [{"text": "x", "label": "a"}, {"text": "y", "label": "c"}])
    with pytest.raises(DataError, match=r"dev\.jsonl:2: unknown label 'c'; known: a, b$"):
        check_targets(TOPIC, load_dataset(TOPIC, path), ("a", "b"))


def test_known_targets_pass(tmp_path: Path) -> None:
    dataset = load_dataset(TOPIC, jsonl(tmp_path / "dev.jsonl", [{"text": "x", "label": "a"}]))
    check_targets(TOPIC, dataset, ("a", "b"))


@pytest.mark.skipif(not DATA.is_dir(), reason="the data sets are not at hand")
@pytest.mark.parametrize(
    ("file", "rows"),
    [("banking77/train.jsonl", 10_003), ("clinc150/test.jsonl", 4_500), ("snips/train.jsonl", 13_084)],
)
def test_row_counts_of_real_data_are_as_published(file: str, rows: int) -> None:
    assert len(load_dataset(TOPIC, DATA / file).examples) == rows
