"""Commands read the files of other tools, say which reading they took, and take the names of integer labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.store.store import Store

FAST = ("--epochs", "1", "--lr", "0.01")
TAGGED = [{"tokens": ["Ada", f"sings {number}"], "ner_tags": [1, 0]} for number in range(20)]


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_training_and_evaluation_read_integer_tags_with_their_names(
    run: Any, backbone: Path, tmp_path: Path
) -> None:
    path = jsonl(tmp_path / "train.jsonl", TAGGED)
    (tmp_path / "names.txt").write_text("O\nB-PER, or so\nI-PER, or so\n")
    line = ("train", "ner", "--train", path, "--name", "people", "--backbone", backbone, *FAST)
    refused = run(*line)
    assert refused.exit_code == 1
    assert f"{path}:1: the tags are integers; give their names in order with --labels" in refused.stderr
    done = run(*line, "--labels", tmp_path / "names.txt")
    assert done.exit_code == 0, done.stderr
    [stored] = Store().versions()
    assert read_manifest(stored.path).labels == ("O", "B-PER, or so", "I-PER, or so")
    names = ("--labels", json.dumps(["O", "B-PER, or so"]))
    evaluated = run("eval", "people", "--backbone", backbone, "--data", path, *names, "--json")
    assert evaluated.exit_code == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)["rows"] == 20


def test_the_format_that_was_found_is_a_note(run: Any, backbone: Path, tmp_path: Path) -> None:
    rows = [{"id": at, "text": f"Ada sings {at}", "label": [[0, 3, "PER"]]} for at in range(20)]
    path = jsonl(tmp_path / "export.jsonl", rows)
    done = run("train", "ner", "--train", path, "--backbone", backbone, *FAST, "--json")
    assert done.exit_code == 0, done.stderr
    note = "read as an export of doccano, by its keys; --format names another format"
    assert f"note: {path}: {note}; first: {path}:1" in done.stderr.splitlines()
    kinds = [each["kind"] for each in json.loads(done.stdout)["notes"]]
    assert kinds[0] == "format"


def test_texts_of_parquet_are_predicted(run: Any, backbone: Path, tmp_path: Path) -> None:
    rows = [{"text": f"{'good' if at % 2 else 'bad'} {at}", "label": bool(at % 2)} for at in range(20)]
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    trained = run("train", "sentiment", "--train", tmp_path / "train.parquet", "--backbone", backbone, *FAST)
    assert trained.exit_code == 0, trained.stderr
    done = run(
        "predict", "sentiment", "--backbone", backbone, "--input", tmp_path / "train.parquet", "--json"
    )
    assert done.exit_code == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["text"] for each in found] == [row["text"] for row in rows]


def test_what_was_guessed_about_a_table_is_noted_and_read_alike_by_all_commands(
    run: Any, backbone: Path, tmp_path: Path
) -> None:
    rows = [(f"schön {at}", "gut") if at % 2 else (f"mäßig {at}", "schlecht") for at in range(20)]
    path = tmp_path / "train.csv"
    path.write_bytes(("Text;Klasse;Intent\r\n" + "".join(f"{a};x;{b}\r\n" for a, b in rows)).encode("cp1252"))
    done = run("train", "intent", "--train", path, "--backbone", backbone, *FAST, "--json")
    assert done.exit_code == 0, done.stderr
    notes = json.loads(done.stdout)["notes"]
    assert [each["kind"] for each in notes][:4] == ["encoding", "delimiter", "columns", "columns"]
    assert f"note: {path}: is not UTF-8; read as cp1252" in done.stderr
    predicted = run("predict", "intent", "--backbone", backbone, "--input", path, "--json")
    assert [json.loads(line)["text"] for line in predicted.stdout.splitlines()] == [text for text, _ in rows]
    assert "rows have their text in 'Text'" in predicted.stderr


def test_cells_beyond_the_limit_of_the_csv_module_are_read(run: Any, backbone: Path, tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("text,label,notes\n" + "".join(f"a {at},{at % 2},{'x' * 140_000}\n" for at in range(10)))
    done = run("train", "intent", "--train", path, "--backbone", backbone, *FAST)
    assert done.exit_code == 0, done.stderr


def test_conll_in_a_txt_file_is_predicted_as_sentences(run: Any, backbone: Path, tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("".join(f"Ada B-PER\nsings O\n{at} O\n\n" for at in range(20)))
    done = run("train", "ner", "--train", path, "--backbone", backbone, *FAST)
    assert done.exit_code == 0, done.stderr
    done = run("predict", "ner", "--backbone", backbone, "--input", path, "--json")
    texts = [json.loads(line)["text"] for line in done.stdout.splitlines()]
    assert texts == [f"Ada sings {at}" for at in range(20)]
    assert f"note: {path}: read as CoNLL (words and tags), by its first sentence" in done.stderr
