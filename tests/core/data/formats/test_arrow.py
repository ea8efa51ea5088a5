"""Parquet, Arrow and Python objects: types, names of labels, and broken files."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from onetrunk.core.data.dataset import load_dataset
from onetrunk.core.data.notes import Note
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.data.readers import read_records
from onetrunk.core.data.splits import Splits
from onetrunk.core.data.texts import load_unlabelled
from onetrunk.core.data.training_data import read_train_data
from onetrunk.core.errors import DataError, UsageError
from onetrunk.plugins import intent, ner

NAMES = ["O", "B-PER", "I-PER"]
FEATURES = {
    "tokens": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "Sequence"},
    "ner_tags": {"feature": {"names": NAMES, "_type": "ClassLabel"}, "_type": "Sequence"},
    "label": {"names": ["good", "bad"], "_type": "ClassLabel"},
}
ROW = {"text": "Ada Byron", "label": 1, "tokens": ["Ada", "Byron"], "ner_tags": [1, 2]}


def parquet(path: Path, rows: list[dict[str, Any]], features: Any = None) -> Path:
    table = pa.Table.from_pylist(rows)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pa.parquet.write_table(table, path)
    return path


def test_integers_have_the_names_that_the_file_lists(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [ROW], FEATURES)
    assert load_dataset(ner.SPEC, path).examples[0].target == ("PER",)
    assert load_dataset(intent.SPEC, path).examples[0].target == "bad"


def test_a_row_is_named_by_its_number(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [ROW, {**ROW, "ner_tags": [1]}], FEATURES)
    with pytest.raises(DataError, match=r"a\.parquet:row 2: expected one tag per word"):
        load_dataset(ner.SPEC, path)


def test_columns_of_bytes_and_times_are_left_out_with_a_note(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "x", "image": b"\xff", "day": date(2026, 1, 2), "parts": [{"a": b"x"}], "size": 1.5}
    ]
    path, notes = parquet(tmp_path / "a.parquet", rows), list[Note]()
    assert [each.record for each in read_records(path, notes=notes)] == [{"text": "x", "size": 1.5}]
    message = (
        "columns of types that JSON lacks are left out: image (binary), day (date32[day]), "
        "parts (list<element: struct<a: binary>>)"
    )
    assert [(note.kind, note.message[:120], note.count) for note in notes] == [
        ("columns-ignored", message[:120], 3)
    ]


def test_cells_without_a_value_are_none(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "x", "label": None, "score": float("nan")},
        {"text": "y", "label": "a", "score": 1.0},
    ]
    found = [each.record for each in read_records(parquet(tmp_path / "a.parquet", rows))]
    assert found == [{"text": "x", "label": None, "score": None}, {"text": "y", "label": "a", "score": 1.0}]


def test_a_column_of_categories_is_read_as_its_values(tmp_path: Path) -> None:
    table = pa.table({"text": ["x", "y"], "label": pa.array(["a", "b"]).dictionary_encode()})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    assert [each.record["label"] for each in read_records(tmp_path / "a.parquet")] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"", r"a\.parquet: is not a readable Parquet file: .*size is 0 bytes"),
        ("a.parquet", b"PAR1" + b"\xff" * 40 + b"PAR1", r"a\.parquet: is not a readable Parquet file"),
        ("a.arrow", b"", r"a\.arrow: is not a readable Arrow file"),
        ("a.arrow", b"ARROW1" + b"\xff" * 40, r"a\.arrow: is not a readable Arrow file"),
        ("a.feather", b"text\nx\n" * 9, r"a\.feather: is not a readable Arrow file"),
        ("a.parquet.gz", b"x", r"a\.parquet\.gz: this format cannot be read with \.gz; decompress"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        list(read_records(tmp_path / name))
    assert len(caught.value.lines) == 1
    assert "\n" not in str(caught.value)


def test_offsets_beyond_their_buffer_are_refused(tmp_path: Path) -> None:
    path, table = tmp_path / "a.arrow", pa.table({"text": ["abcde", "fghi"]})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    whole, offsets = path.read_bytes(), struct.pack("<3i", 0, 5, 9)
    assert whole.count(offsets) == 1
    path.write_bytes(whole.replace(offsets, struct.pack("<3i", 0, 5, 2**28)))
    with pytest.raises(DataError, match=r"a\.arrow: is not a readable Arrow file: .*[Oo]ffset"):
        list(read_records(path))


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    whole = parquet(tmp_path / "a.parquet", [ROW] * 3000).read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is not a readable Parquet file"):
        list(read_records(tmp_path / "b.parquet"))


def test_a_missing_file_and_a_stream_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.parquet: no such file"):
        list(read_records(tmp_path / "a.parquet"))
    with pytest.raises(
        DataError, match="stdin: this format cannot be read from a stream; give the name of a file"
    ):
        list(read_records("-", ReadOptions(format="parquet")))


@pytest.mark.parametrize("features", ["x", {"label": {"names": ["a", "a"]}}, {"label": {"names": [1]}}])
def test_names_that_cannot_be_used_are_refused(tmp_path: Path, features: Any) -> None:
    path = parquet(tmp_path / "a.parquet", [ROW], features)
    if features == "x":
        assert len(list(read_records(path))) == 1
    else:
        with pytest.raises(DataError, match="the features of column label"):
            list(read_records(path))


def test_too_many_columns_are_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [{f"c{number}": 1 for number in range(2001)}])
    with pytest.raises(DataError, match="has 2001 columns; expected at most 2000"):
        list(read_records(path))


def test_reading_other_formats_imports_no_pyarrow(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}')
    program = (
        "import sys; from onetrunk.core.data.readers import read_records\n"
        f"list(read_records({str(tmp_path / 'a.jsonl')!r})); sys.exit('pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_without_pyarrow_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "pyarrow.py").write_text("raise ImportError('left out')")
    path = parquet(tmp_path / "a.parquet", [ROW])
    program = (
        "from onetrunk.core.data.readers import read_records\n"
        "from onetrunk.core.errors import UsageError\n"
        f"try: list(read_records({str(path)!r}))\n"
        "except UsageError as fault: print(fault)"
    )
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = [sys.executable, "-c", program]
    done = subprocess.run(
        run, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "Parquet and Arrow need pyarrow: pip install 'onetrunk[parquet]'"


def test_objects_in_python_are_named_by_type_and_row() -> None:
    with pytest.raises(DataError, match="list:row 2: expected a string under 'text', found None"):
        load_dataset(intent.SPEC, [{"text": "x", "label": "a"}, {"label": "b"}])
    with pytest.raises(DataError, match="tuple:row 1: is a string; expected an object"):
        load_dataset(intent.SPEC, ("text",))
    with pytest.raises(DataError, match="list: has no records"):
        load_dataset(intent.SPEC, [])


def test_several_splits_are_not_one_data_set() -> None:
    with pytest.raises(
        DataError, match=r"dict: has the keys train, test; pass one split, such as data\['train'\]"
    ):
        load_dataset(intent.SPEC, {"train": [], "test": []})


def test_a_format_of_files_is_refused_for_objects() -> None:
    with pytest.raises(UsageError, match="the format of Python objects is 'csv'; expected one of argilla"):
        load_dataset(intent.SPEC, [{}], ReadOptions(format="csv"))


def test_values_of_numpy_are_those_of_python() -> None:
    row = {
        "tokens": np.array(["Ada", "Byron"]),
        "ner_tags": np.array([1, 2]),
        "label": np.int64(1),
        "text": "x",
    }
    assert [each.record for each in read_records([row])] == [
        {"tokens": ["Ada", "Byron"], "ner_tags": [1, 2], "label": 1, "text": "x"}
    ]


def test_training_takes_objects_and_texts_of_a_generator() -> None:
    def rows() -> Iterator[dict[str, str]]:
        for number in range(40):
            yield {"text": f"text {number}", "label": "ab"[number % 2]}

    data = read_train_data(intent.SPEC, Splits(rows(), dev=list(rows())))
    assert (len(data.train.examples), len(data.dev.examples), data.labels) == (40, 40, ("a", "b"))
    assert data.train.source == "generator"
    assert [each.where for each in load_unlabelled(rows())][:2] == ["generator:row 1", "generator:row 2"]
