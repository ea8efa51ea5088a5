"""Names of columns, labels and texts that are not as tasks read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from onetrunk.core.data.dataset import Dataset, check_any_missing, load_dataset
from onetrunk.core.data.notes import Note
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.data.record_checks import MAX_LABELS
from onetrunk.core.data.texts import TextRecord, load_unlabelled
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import Example, TaskSpec
from onetrunk.plugins.intent import SPEC as INTENT
from onetrunk.plugins.ner import SPEC as NER
from tests.core.data.sample_tasks import jsonl, write


def load(path: Path, spec: TaskSpec = INTENT, **options: object) -> Dataset:
    return load_dataset(spec, path, ReadOptions(**options))  # type: ignore[arg-type]


def pairs(dataset: Dataset) -> list[tuple[str, object]]:
    return [(example.text, example.target) for example in dataset.examples]


def predicted(path: Path, **options: object) -> tuple[list[TextRecord], list[Note]]:
    notes: list[Note] = []
    return list(load_unlabelled(path, ReadOptions(**options), notes)), notes  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "header",
    [
        "sentence,intent",
        "utterance,label",
        "text,category",
        "Text,LABEL",
        "question,Class",
        "tweet,sentiment",
        "id,review,y",
    ],
)
def test_usual_names_of_columns_are_read_with_a_note_each(tmp_path: Path, header: str) -> None:
    cells = ",".join(["7"] * (header.count(",") - 1) + ["hello", "greet"])
    dataset = load(write(tmp_path / "a.csv", f"{header}\n{cells}\n"))
    assert pairs(dataset) == [("hello", "greet")]
    guessed = [name for name in header.split(",") if name not in ("text", "label", "id")]
    assert [note.kind for note in dataset.notes] == ["columns"] * len(guessed)
    assert all(repr(name) in note.message for name, note in zip(guessed, dataset.notes, strict=True))


def test_usual_names_are_read_in_json_too(tmp_path: Path) -> None:
    dataset = load(jsonl(tmp_path / "a.jsonl", [{"utterance": "hi", "intent": "greet"}]))
    assert pairs(dataset) == [("hi", "greet")]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("title,body,label", r"'text'(.|\n)*it could be 'body' or 'title': choose with --text-column"),
        (
            "text,topic,sentiment",
            r"no label(.|\n)*it could be 'sentiment' or 'topic': choose with --label-column",
        ),
        (
            "foo,bar,baz",
            r"'text'(.|\n)*name its column with --text-column, or add a header such as text,label",
        ),
    ],
)
def test_an_unclear_column_is_refused_with_the_candidates(tmp_path: Path, header: str, message: str) -> None:
    path = write(tmp_path / "a.csv", f"{header}\na,b,c\nd,e,f\n")
    with pytest.raises(DataError, match=message):
        check_any_missing(INTENT, load(path))


def test_a_table_without_a_header_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "great movie,pos\nbad plot,neg\nfine,pos\n")
    with pytest.raises(
        DataError, match=r"check the header \(great movie, pos\)(.|\n)*or add a header such as text,label"
    ):
        load(path)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_the_options_name_columns_and_keys(tmp_path: Path, suffix: str) -> None:
    row = {"title": "t", "body": "b", "topic": "x", "text": "ignored"}
    csv = ",".join(row) + "\n" + ",".join(row.values()) + "\n"
    path = write(tmp_path / "a.csv", csv) if suffix == "csv" else jsonl(tmp_path / "a.jsonl", [row])
    dataset = load(path, text_column="body", label_column="topic")
    assert (pairs(dataset), dataset.notes) == ([("b", "x")], ())


def test_texts_without_labels_are_refused_for_training(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.txt:1: the record has no label(.|\n)*the file has texts alone"):
        check_any_missing(INTENT, load(write(tmp_path / "a.txt", "one\ntwo\n")))


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--text-column names 'txt'; the record has: text, label"):
        load(write(tmp_path / "a.csv", "text,label\na,x\n"), text_column="txt")


def test_a_task_with_keys_of_its_own_keeps_them(tmp_path: Path) -> None:
    from dataclasses import replace

    pair = replace(INTENT, read=lambda record: Example(record["title"] + record["body"], record["category"]))
    dataset = load(jsonl(tmp_path / "a.jsonl", [{"title": "a", "body": "b", "category": "x"}]), pair)
    assert pairs(dataset) == [("ab", "x")]


@pytest.mark.parametrize("value", ["NA", "null", "None", "nan", "N/A", "007"])
def test_labels_of_tables_are_text(tmp_path: Path, value: str) -> None:
    assert pairs(load(write(tmp_path / "a.csv", f"text,label\n{value},{value}\n"))) == [(value, value)]


def test_an_empty_cell_is_a_missing_label(tmp_path: Path) -> None:
    dataset = load(write(tmp_path / "a.csv", "text,label\na,x\nb,\nc, \n"))
    assert [example.target for example in dataset.examples] == ["x", None, None]
    with pytest.raises(DataError, match=r"a\.csv:3: the record has no label"):
        check_any_missing(INTENT, dataset)


def test_null_is_a_missing_label(tmp_path: Path) -> None:
    assert pairs(load(jsonl(tmp_path / "a.jsonl", [{"text": "a", "label": None}]))) == [("a", None)]


def test_a_number_as_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1: expected a string under 'text', found 123"):
        load(jsonl(tmp_path / "a.jsonl", [{"text": 123, "label": "x"}]))


def test_white_space_around_labels_is_removed_with_a_note(tmp_path: Path) -> None:
    dataset = load(write(tmp_path / "a.csv", "text,label\na,x\nb, x\nc,x \n"))
    assert {example.target for example in dataset.examples} == {"x"}
    assert [(note.kind, note.count, note.where) for note in dataset.notes] == [
        ("label-white-space", 2, f"{tmp_path}/a.csv:3")
    ]


@pytest.mark.parametrize("label", [-1, "-1"])
def test_a_test_set_whose_labels_are_all_minus_one_is_refused(tmp_path: Path, label: object) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl: has no labels: all are -1"):
        load(jsonl(tmp_path / "a.jsonl", [{"text": "a", "label": label}] * 3))


def test_some_labels_of_minus_one_are_noted(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": -1}]
    (note,) = load(jsonl(tmp_path / "a.jsonl", rows)).notes
    assert (note.kind, note.count, note.where) == ("minus-one-labels", 1, f"{tmp_path}/a.jsonl:2")


def test_a_label_of_more_than_a_thousand_characters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"a\.jsonl:2: the label 'y+'… has 1,001 characters; expected at most 1,000"
    ):
        load(
            jsonl(
                tmp_path / "a.jsonl", [{"text": "a", "label": "x" * 1000}, {"text": "a", "label": "y" * 1001}]
            )
        )


def test_more_than_a_hundred_thousand_labels_are_refused(tmp_path: Path) -> None:
    rows = "".join(f"t,{number}\n" for number in range(MAX_LABELS + 1))
    with pytest.raises(DataError, match=r"a\.csv:100002: too many labels: at most 100,000"):
        load(write(tmp_path / "a.csv", "text,label\n" + rows))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a\u0000b", "control-characters"),
        ("a\ufeffb", "control-characters"),
        ("a\x07b", "control-characters"),
        ("caf\ufffd", "control-characters"),
        ("sch\u00c3\u00b6n", "control-characters"),
        ("it\u00e2\u20ac\u2122s", "control-characters"),
        ("fish &amp; chips", "escaped-characters"),
        ("it&#39;s", "escaped-characters"),
        ("one\\ntwo", "escaped-characters"),
    ],
)
def test_texts_that_were_converted_wrongly_are_noted(tmp_path: Path, text: str, kind: str) -> None:
    rows = [{"text": "fine, a & b", "label": "x"}, {"text": text, "label": "x"}]
    (note,) = load(jsonl(tmp_path / "a.jsonl", rows)).notes
    assert (note.kind, note.count, note.where) == (kind, 1, f"{tmp_path}/a.jsonl:2")
    assert [each.kind for each in predicted(tmp_path / "a.jsonl")[1]] == [kind]


def test_few_escapes_among_many_texts_are_not_noted(tmp_path: Path) -> None:
    rows = [{"text": f"fine {number}", "label": "x"} for number in range(100)]
    assert load(jsonl(tmp_path / "a.jsonl", [*rows, {"text": "&amp;", "label": "x"}])).notes == ()


@pytest.mark.parametrize("tags", [["B", "I", "O"], ["PER", "PER", "O"], ["B-PER", "M-PER", "O"]])
def test_tags_of_json_may_have_any_scheme(tmp_path: Path, tags: list[str]) -> None:
    dataset = load(jsonl(tmp_path / "a.jsonl", [{"tokens": ["Ada", "L", "said"], "ner_tags": tags}]), NER)
    kinds = [note.kind for note in dataset.notes]
    assert (len(dataset.examples), kinds) == (1, [] if "B-PER" in tags else ["tag-scheme"])


def test_predict_reads_another_column_with_a_note_and_keeps_the_rest(tmp_path: Path) -> None:
    (record,), (note,) = predicted(write(tmp_path / "a.csv", "id,sentence\n7,hello\n"))
    assert (record.text, record.extra, note.kind) == ("hello", {"id": "7"}, "columns")


@pytest.mark.parametrize("key", ["words", "tokens"])
def test_predict_joins_words_and_keeps_them(tmp_path: Path, key: str) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{key: ["Ada", "said", "hi"], "id": 7}])
    assert predicted(path)[0] == [
        TextRecord("Ada said hi", {key: ["Ada", "said", "hi"], "id": 7}, f"{path}:1")
    ]


def test_predict_refuses_words_that_are_not_strings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1: the words must be a list of strings, found \[1\]"):
        predicted(jsonl(tmp_path / "a.jsonl", [{"words": [1]}]))


@pytest.mark.parametrize("name", ["a.txt", "a.conll"])
def test_conll_is_predicted_as_sentences(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "Ada B-PER\nsaid O\n\nhi O\nthere O\n")
    records, notes = predicted(path)
    assert [each.text for each in records] == ["Ada said", "hi there"]
    assert records[0].extra == {"words": ["Ada", "said"], "tags": ["B-PER", "O"]}
    assert [note.kind for note in notes] == (["format"] if name == "a.txt" else [])


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("one text\nvitamin O\n", ["one text", "vitamin O"]),
        ("vitamin O\n", ["vitamin O"]),
        ("{broken\n", ["{broken"]),
        ('{"text": "a"}\n', ["a"]),
        ("id,text\n7,a\n", ["a"]),
        ("text\n", ["text"]),
        ("__label__pos very nice\n", ["very nice"]),
    ],
)
def test_one_rule_tells_what_a_txt_file_holds(tmp_path: Path, content: str, texts: list[str]) -> None:
    records, notes = predicted(write(tmp_path / "a.txt", content))
    assert [each.text for each in records] == texts
    assert [note.kind for note in notes] == ([] if content.startswith(tuple(texts)) else ["format"])


def test_the_format_that_the_user_names_is_taken_for_txt(tmp_path: Path) -> None:
    records, notes = predicted(write(tmp_path / "a.txt", "Ada\tB-PER\n"), format="text")
    assert ([each.text for each in records], notes) == (["Ada\tB-PER"], [])


def test_training_and_prediction_read_a_txt_file_alike(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "Ada B-PER\nsaid O\n\nhi O\nthere O\n")
    assert [example.text for example in load(path, NER).examples] == [
        each.text for each in predicted(path)[0]
    ]


def test_labels_of_fasttext_are_read(tmp_path: Path) -> None:
    dataset = load(write(tmp_path / "a.txt", "__label__pos very nice\n__label__neg\tbad\n"))
    assert pairs(dataset) == [("very nice", "pos"), ("bad", "neg")]
    assert [note.kind for note in dataset.notes] == ["format"]


def test_a_line_of_fasttext_without_a_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.txt:2: has no label; expected __label__NAME"):
        load(write(tmp_path / "a.txt", "__label__pos very nice\nbad\n"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", '{"text": "a", "label": "x"}\n', r"a\.csv:1: begins as JSON; .*--format jsonl"),
        ("a.tsv", '[{"text": "a", "label": "x"}]\n', r"a\.tsv:1: begins as JSON; .*--format json"),
        ("a.csv", "<!DOCTYPE html>\n<html>\n", r"a\.csv:1: begins as an HTML page"),
        ("a.csv", "version https://git-lfs.github.com/spec/v1\n", r"a\.csv:1: is a pointer of Git LFS"),
        ("a.jsonl", "<html><body>404</body></html>\n", r"a\.jsonl:1: begins as an HTML page"),
    ],
)
def test_a_file_that_is_not_what_its_suffix_says_is_refused(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / name, content))
