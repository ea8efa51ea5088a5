"""`read_train_data` and `report_data`: the notes on the data of a run, and what `strict` refuses."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.core.data.data_report import Lengths, report_data
from onetrunk.core.data.dataset import load_dataset
from onetrunk.core.data.notes import DOUBTFUL, Note
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.data.splits import Splits
from onetrunk.core.data.training_data import TrainData, read_train_data
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import IGNORE
from onetrunk.plugins import intent, ner, sentiment
from tests.core.data.sample_tasks import jsonl

Row = tuple[str, str]
SOUND = [*((f"buy {row}", "buy") for row in range(20)), *((f"hello {row}", "greet") for row in range(20))]


def write(folder: Path, **splits: Sequence[Row]) -> Splits:
    """Write the splits as JSONL files."""
    files = {
        name: jsonl(folder / f"{name}.jsonl", [{"text": text, "label": label} for text, label in rows])
        for name, rows in splits.items()
    }
    return Splits(files["train"], files.get("dev"), files.get("test"))


def by_kind(data: TrainData) -> dict[str, Note]:
    return {note.kind: note for note in data.notes}


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_label_that_train_lacks_is_a_note(tmp_path: Path, split: str) -> None:
    files = write(tmp_path, train=SOUND, **{split: [("buy it", "buy"), ("fly", "travel"), ("go", "travel")]})
    data = read_train_data(sentiment.SPEC, files)
    note = by_kind(data)["unknown-labels"]
    assert (note.source, note.count) == (str(tmp_path / f"{split}.jsonl"), 2)
    assert note.where.endswith(f"{split}.jsonl:2")
    assert note.message == "2 rows have labels that the training data lacks: travel (2); they count as missed"
    assert data.labels == ("buy", "greet")


def test_strict_refuses_a_label_that_train_lacks(tmp_path: Path) -> None:
    files = write(tmp_path, train=SOUND, dev=[("buy it", "buy"), ("fly", "travel")])
    with pytest.raises(
        DataError, match=r"dev\.jsonl:2: 1 row has a label that the training data lacks: travel"
    ):
        read_train_data(sentiment.SPEC, files, options=ReadOptions(strict=True))


def test_an_entity_type_that_train_lacks_is_a_note(tmp_path: Path) -> None:
    train, dev = tmp_path / "train.conll", tmp_path / "dev.conll"
    train.write_text("Ada B-PER\nran O\n\nBo B-PER\n")
    dev.write_text("Cy B-PER\nin O\nNew B-LOC\nYork I-LOC\n")
    note = by_kind(read_train_data(ner.SPEC, Splits(train, dev)))["unknown-labels"]
    assert note.message == "1 row has a label that the training data lacks: LOC (1); they count as missed"


def test_data_in_which_every_row_has_an_unknown_label_is_refused(tmp_path: Path) -> None:
    files = write(tmp_path, train=SOUND, test=[("a", "x"), ("b", "y")])
    with pytest.raises(DataError, match=r"test\.jsonl:1: unknown label 'x'; known: buy, greet"):
        read_train_data(sentiment.SPEC, files)


@pytest.mark.parametrize("label", ["out_of_scope", "OOS", "Out-of-scope", "out of domain", "ood"])
def test_another_spelling_of_oos_is_a_note(tmp_path: Path, label: str) -> None:
    rows = [*SOUND, ("sing", label), ("dance", label), ("x", "oos")]
    note = by_kind(read_train_data(intent.SPEC, write(tmp_path, train=rows)))["oos-spelling"]
    assert (note.count, note.where) == (2, f"{tmp_path / 'train.jsonl'}:41")
    assert f"the label {label!r}, which is an intent like any other; name it 'oos'" in note.message


def test_oos_itself_gets_no_note(tmp_path: Path) -> None:
    data = read_train_data(intent.SPEC, write(tmp_path, train=[*SOUND, ("sing", "oos")]))
    assert "oos-spelling" not in by_kind(data)


def test_labels_in_two_unicode_forms_are_one_label(tmp_path: Path) -> None:
    rows = [("a 1", "caf\u00e9"), ("a 2", "cafe\u0301"), ("a 3", "tea"), ("a 4", "tea")]
    data = read_train_data(sentiment.SPEC, write(tmp_path, train=rows, dev=rows[1:3]))
    assert data.labels == ("caf\u00e9", "tea")


def test_entity_types_in_two_unicode_forms_are_one_and_texts_stay_as_written(tmp_path: Path) -> None:
    text = "Cafe\u0301 Rouge"
    rows = [
        {"text": text, "entities": [{"start": 0, "end": 5, "label": name}]}
        for name in ("b\u00e9", "be\u0301")
    ]
    data = load_dataset(ner.SPEC, jsonl(tmp_path / "a.jsonl", rows))
    assert {example.text for example in data.examples} == {text}
    assert ner.SPEC.learn_labels(data.examples) == ("O", "B-b\u00e9", "I-b\u00e9")


@given(st.permutations(["b", "a", "\u00e9", "Z", "10", "9"]))
def test_the_order_of_labels_does_not_depend_on_the_order_of_rows(order: list[str]) -> None:
    examples = [sentiment.SPEC.read({"text": "x", "label": label}) for label in order]
    assert sentiment.SPEC.learn_labels(examples) == (
        "10",
        "9",
        "Z",
        "a",
        "b",
        unicodedata.normalize("NFC", "é"),
    )


def test_a_label_of_ten_megabytes_is_refused_with_its_line(tmp_path: Path) -> None:
    files = write(tmp_path, train=[*SOUND, ("a", "x" * 10**7)])
    with pytest.raises(
        DataError, match=r"train\.jsonl:41: the label 'x{40}'… has 10,000,000 characters"
    ) as caught:
        read_train_data(sentiment.SPEC, files)
    assert len(str(caught.value)) < 500


def test_a_single_label_is_refused_with_what_to_do(tmp_path: Path) -> None:
    files = write(tmp_path, train=SOUND[:20])
    with pytest.raises(DataError, match=r"at least two labels .* found: buy; add rows with another label"):
        read_train_data(sentiment.SPEC, files)


def test_unlabelled_rows_among_labelled_ones_are_refused_with_their_number(tmp_path: Path) -> None:
    rows = [{"text": text, "label": label} for text, label in SOUND] + [
        {"text": str(row)} for row in range(9)
    ]
    file = jsonl(tmp_path / "train.jsonl", rows)
    with pytest.raises(DataError, match=r"train\.jsonl:41: the record has no label(.*\n)*.*and 4 more"):
        read_train_data(sentiment.SPEC, Splits(file))


def test_labels_of_the_parent_that_train_lacks_are_named(tmp_path: Path) -> None:
    labels = ("buy", "cancel", "greet")
    note = by_kind(read_train_data(intent.SPEC, write(tmp_path, train=SOUND), labels=labels))[
        "missing-parent-labels"
    ]
    assert note.count == 1
    assert "has no rows of 1 of the 3 labels of the adapter to continue from: cancel;" in note.message


def test_an_entity_type_of_the_parent_that_train_lacks_is_named(tmp_path: Path) -> None:
    file = tmp_path / "train.conll"
    file.write_text("Ada B-PER\n\nBo B-PER\n\nCy B-PER\n")
    labels = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    note = by_kind(read_train_data(ner.SPEC, Splits(file), labels=labels))["missing-parent-labels"]
    assert "1 of the 2 labels of the adapter to continue from: LOC;" in note.message


def test_strict_lists_all_doubtful_notes(tmp_path: Path) -> None:
    rows = [*SOUND, ("buy 1", "greet"), ("hi", "Greet"), ("ho", "Greet")]
    files = write(tmp_path, train=rows, dev=[("buy 3", "buy")])
    with pytest.raises(DataError) as caught:
        read_train_data(sentiment.SPEC, files, options=ReadOptions(strict=True))
    assert [line.partition(": ")[0].rpartition("/")[2] for line in caught.value.lines] == [
        "train.jsonl:41",
        "dev.jsonl:1",
        "train.jsonl:42",
    ]


def test_strict_accepts_notes_that_put_nothing_in_doubt(tmp_path: Path) -> None:
    files = write(tmp_path, train=[*SOUND, SOUND[0]])
    kinds = by_kind(read_train_data(sentiment.SPEC, files, options=ReadOptions(strict=True))).keys()
    assert "duplicate-rows" in kinds
    assert not kinds & DOUBTFUL


def test_a_report_has_all_errors_of_all_files(tmp_path: Path) -> None:
    dev, test = tmp_path / "dev.jsonl", tmp_path / "test.jsonl"
    dev.write_text("{oops}\n")
    test.write_text('{"label": "buy"}\n')
    files = write(tmp_path, train=[*SOUND, SOUND[0]])
    report = report_data(sentiment.SPEC, Splits(files.train, dev, test))
    assert [line.partition(": ")[0].rpartition("/")[2] for line in report.errors] == [
        "dev.jsonl:1",
        "test.jsonl:1",
    ]
    assert list(report.splits) == ["train", "dev"]  # dev is held out to check the rest
    assert "duplicate-rows" in {note.kind for note in report.notes}


def test_the_notes_of_a_report_are_those_of_training(tmp_path: Path) -> None:
    files = write(tmp_path, train=[*SOUND, SOUND[0]], test=[("buy 1", "buy"), ("x", "greet")])
    report = report_data(sentiment.SPEC, files)
    assert report.errors == ()
    assert report.notes == read_train_data(sentiment.SPEC, files).notes


@pytest.mark.parametrize(
    ("lengths", "expected"), [([7], (7, 7, 7)), (range(1, 101), (50, 95, 100)), ([3, 1, 2], (2, 2, 3))]
)
def test_lengths(lengths: Sequence[int], expected: tuple[int, int, int]) -> None:
    found = Lengths.of(list(lengths))
    assert (found.median, found.p95, found.longest) == expected


def test_targets_of_unknown_labels_are_ignored(tmp_path: Path) -> None:
    from onetrunk.core.data.dataset import check_targets

    rows = [
        {"words": ["Ada", "in", "Rome"], "tags": ["B-PER", "O", "B-LOC"]},
        {"words": ["Bo"], "tags": ["B-PER"]},
    ]
    data = load_dataset(ner.SPEC, jsonl(tmp_path / "a.jsonl", rows))
    checked = check_targets(ner.SPEC, data, ("O", "B-PER", "I-PER"), allow_unknown=True)
    assert checked.targets == ((1, 0, IGNORE), (1,))
    assert checked.unknown == {0: ("B-LOC", "I-LOC")}
