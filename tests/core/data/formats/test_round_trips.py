"""1,000 rows through each format, there and back, are equal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import conllu
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
import yaml

from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.data.readers import read_records
from onetrunk.core.data.texts import load_unlabelled
from tests.core.data.formats.thousand_rows import Row, labels_of, rows, spans_of, utf16

Writer = Callable[[int, Row], Any]


def with_spans(some: Iterable[Row]) -> list[tuple[str, Any]]:
    return [(row.text, row.entities) for row in some]


def with_labels(some: Iterable[Row]) -> list[tuple[str, str]]:
    return [(row.text, row.label) for row in some]


def doccano(number: int, row: Row) -> Any:
    return {"id": number, "text": row.text, "label": [list(each) for each in row.entities], "Comments": []}


def doccano_offsets(number: int, row: Row) -> Any:
    entities = [{"id": 1, "label": kind, "start_offset": a, "end_offset": b} for a, b, kind in row.entities]
    return {"id": number, "text": row.text, "entities": entities, "relations": []}


def prodigy(number: int, row: Row) -> Any:
    words = [{"text": word, "id": at} for at, word in enumerate(row.text.split())]
    spans = [
        {"start": a, "end": b, "label": kind, "token_start": 0, "token_end": 0} for a, b, kind in row.entities
    ]
    head = {"text": row.text, "_input_hash": number, "_task_hash": -number, "_view_id": "ner_manual"}
    return {**head, "tokens": words, "spans": spans, "answer": "accept"}


def label_studio(number: int, row: Row) -> Any:
    regions = [
        {
            "value": {
                "start": utf16(row.text, a),
                "end": utf16(row.text, b),
                "text": row.text[a:b],
                "labels": [kind],
            },
            "from_name": "label",
            "to_name": "text",
            "type": "labels",
        }
        for a, b, kind in row.entities
    ]
    annotations = [{"id": 2, "was_cancelled": False, "result": regions}]
    return {"id": number, "data": {"text": row.text}, "annotations": annotations, "predictions": []}


def label_studio_minimal(number: int, row: Row) -> Any:
    regions = [{"start": a, "end": b, "text": row.text[a:b], "labels": [kind]} for a, b, kind in row.entities]
    about = {"id": number, "annotator": 1, "annotation_id": number, "lead_time": 1.5}
    return {**about, "text": row.text, "label": regions}


def spacy_pair(number: int, row: Row) -> Any:
    return [row.text, {"entities": [list(each) for each in row.entities]}]


def argilla_1(number: int, row: Row) -> Any:
    annotation = [[kind, a, b] for a, b, kind in row.entities]
    head = {"text": row.text, "tokens": row.text.split(), "prediction": None, "prediction_agent": None}
    return {
        **head,
        "annotation": annotation,
        "annotation_agent": "ada",
        "id": str(number),
        "status": "Validated",
    }


def argilla_2(number: int, row: Row) -> Any:
    spans = [{"label": kind, "start": a, "end": b} for a, b, kind in row.entities]
    responses = {"span": [{"value": spans, "user_id": "u", "status": "submitted"}]}
    return {"id": str(number), "status": "completed", "fields": {"text": row.text}, "responses": responses}


SPAN_WRITERS = {
    "doccano": doccano,
    "doccano with offsets": doccano_offsets,
    "prodigy": prodigy,
    "label-studio": label_studio,
    "label-studio minimal": label_studio_minimal,
    "spacy": spacy_pair,
    "argilla 1": argilla_1,
    "argilla 2": argilla_2,
}
LABEL_WRITERS: dict[str, Writer] = {
    "doccano": lambda number, row: {"id": number, "data": row.text, "label": [row.label]},
    "prodigy": lambda _, row: {
        "text": row.text,
        "options": [{"id": row.label, "text": "shown"}, {"id": "x", "text": "X"}],
        "accept": [row.label],
        "answer": "accept",
    },
    "prodigy binary": lambda _, row: {"text": row.text, "label": row.label, "answer": "accept"},
    "label-studio": lambda _, row: {
        "data": {"review": row.text, "stars": 3},
        "annotations": [
            {"result": [{"type": "choices", "from_name": "sentiment", "value": {"choices": [row.label]}}]}
        ],
    },
    "label-studio minimal": lambda number, row: {
        "text": row.text,
        "sentiment": row.label,
        "annotation_id": number,
        "lead_time": 2.0,
    },
    "spacy": lambda _, row: [row.text, {"cats": {row.label: 1.0, "other": 0.0}}],
    "argilla 1": lambda _, row: {
        "inputs": {"text": row.text},
        "prediction": [["other", 0.9]],
        "annotation": row.label,
        "status": "Validated",
    },
    "argilla 2": lambda _, row: {
        "fields": {"prompt": row.text},
        "suggestions": {"intent": {"value": "other", "score": 0.9}},
        "responses": {"intent": [{"value": row.label, "user_id": "u"}]},
    },
}


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("name", SPAN_WRITERS)
def test_entities_of_an_export_come_back(tmp_path: Path, name: str, suffix: str) -> None:
    options = ReadOptions(offsets="utf16" if name == "label-studio" else "characters")
    path = written(tmp_path / f"a{suffix}", SPAN_WRITERS[name])
    assert spans_of(path, options) == with_spans(rows())


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("name", LABEL_WRITERS)
def test_labels_of_an_export_come_back(tmp_path: Path, name: str, suffix: str) -> None:
    assert labels_of(written(tmp_path / f"a{suffix}", LABEL_WRITERS[name])) == with_labels(rows())


def written(path: Path, writer: Writer) -> Path:
    values = [writer(number, row) for number, row in enumerate(rows(), 1)]
    lines = [json.dumps(value, ensure_ascii=bool(number % 2)) for number, value in enumerate(values)]
    content = json.dumps(values, indent=1) if path.suffix == ".json" else "\n".join(lines)
    path.write_text(content, encoding="utf-8")
    return path


def annotated(row: Row, number: int) -> str:
    """Return the text with the annotations of Rasa, in one of their two forms."""
    text, at = "", 0
    for start, end, kind in row.entities:
        own = f"({kind})" if number % 2 else json.dumps({"entity": kind}, ensure_ascii=False)
        text, at = f"{text}{row.text[at:start]}[{row.text[start:end]}]{own}", end
    return text + row.text[at:]


def for_rasa() -> list[Row]:
    """The rows without brackets, which Rasa's format has no escape for, and stripped."""
    return sorted(
        (row for row in rows() if not set("[]") & set(row.text) and row.text == row.text.strip(" ")),
        key=lambda row: row.label,
    )


def rasa_markdown(path: Path) -> Path:
    lines, before = ["<!-- exported -->"], None
    for number, row in enumerate(for_rasa()):
        if row.label != before:
            lines += ["", f"## intent:{row.label}"]
        before = row.label
        lines.append(f"- {annotated(row, number)}")
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def rasa_yaml(path: Path) -> Path:
    intents: dict[str, str] = {}
    for number, row in enumerate(for_rasa()):
        intents[row.label] = intents.get(row.label, "") + f"- {annotated(row, number)}\n"
    nlu = [{"intent": intent, "examples": examples} for intent, examples in intents.items()]
    path.write_text(yaml.safe_dump({"version": "3.1", "nlu": nlu}, allow_unicode=True), encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "writer"), [("nlu.md", rasa_markdown), ("nlu.yml", rasa_yaml)])
def test_intents_and_entities_of_rasa_come_back(
    tmp_path: Path, name: str, writer: Callable[[Path], Path]
) -> None:
    path = writer(tmp_path / name)
    assert len(for_rasa()) > 950
    assert spans_of(path) == with_spans(for_rasa())
    assert labels_of(path) == with_labels(for_rasa())


def test_words_tags_and_spaces_of_conllu_come_back(tmp_path: Path) -> None:
    expected, sentences = [], []
    for number, row in enumerate(rows()):
        words = row.text.replace("\u00a0", " ").split()
        tags = ["B-X" if at == number % 3 else "O" for at in range(len(words))]
        spaces = [(at + number) % 4 > 0 for at in range(len(words))]
        expected.append((words, tags, spaces))
        tokens = [
            conllu.Token({
                "id": at, "form": word, "lemma": "_", "upos": "X", "xpos": None, "feats": None, "head": 0,
                "deprel": "dep", "deps": None,
                "misc": {"NER": tag, **({} if space else {"SpaceAfter": "No"})},
            })
            for at, (word, tag, space) in enumerate(zip(words, tags, spaces, strict=True), 1)
        ]  # fmt: skip
        sentences.append(
            conllu.TokenList(tokens, conllu.Metadata(sent_id=str(number), text=row.text)).serialize()
        )
    path = tmp_path / "a.conllu"
    path.write_text("".join(sentences), encoding="utf-8")
    found = [source.record for source in read_records(path)]
    filled = [
        (each["words"], each["tags"], each.get("spaces", [True] * len(each["words"]))) for each in found
    ]
    assert filled == expected


def table() -> pa.Table:
    records = [
        {
            "text": row.text,
            "label": row.label,
            "entities": [{"start": start, "end": end, "label": kind} for start, end, kind in row.entities],
        }
        for row in rows()
    ]
    return pa.Table.from_pylist(records)


def write_stream(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table().schema) as stream:
        stream.write_table(table(), max_chunksize=300)


def write_file(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table().schema) as stream:
        stream.write_table(table(), max_chunksize=300)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.parquet", lambda path: pa.parquet.write_table(table(), path, row_group_size=170)),
        ("a.feather", lambda path: pa.feather.write_feather(table(), path)),
        ("a.arrow", write_file),
        ("stream.arrow", write_stream),
    ],
)
def test_rows_of_parquet_and_arrow_come_back(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)
    assert spans_of(tmp_path / name) == with_spans(rows())
    assert labels_of(tmp_path / name) == with_labels(rows())
    assert [each.text for each in load_unlabelled(tmp_path / name)] == [row.text for row in rows()]


def test_records_in_python_come_back() -> None:
    records = table().to_pylist()
    assert spans_of(records) == with_spans(rows())
    assert labels_of(iter(records)) == with_labels(rows())
    assert [each.text for each in load_unlabelled(records)] == [row.text for row in rows()]


def test_an_export_loaded_in_python_is_read_as_one() -> None:
    assert spans_of([doccano(number, row) for number, row in enumerate(rows())]) == with_spans(rows())


def test_a_data_frame_of_pandas_comes_back() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(table().to_pylist())
    assert spans_of(frame) == with_spans(rows())
    assert labels_of(frame) == with_labels(rows())


def test_a_data_frame_of_polars_comes_back() -> None:
    polars = pytest.importorskip("polars")
    assert spans_of(polars.DataFrame(table().to_pylist())) == with_spans(rows())


def test_a_dataset_of_datasets_comes_back() -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list(table().to_pylist()).class_encode_column("label")
    assert spans_of(data) == with_spans(rows())
    assert labels_of(data) == with_labels(rows())
