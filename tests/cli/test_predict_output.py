"""`adapters predict --output`: CSV, JSON lines or Parquet by suffix, resume after an interruption, the summary."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.cli.partial_output import partial_output
from onetrunk.cli.prediction_output import MOST_COLUMNS, flat, format_of, write_output
from onetrunk.core.errors import UsageError
from onetrunk.core.inference.predictor import CHUNK

TEXTS = ("the film is good", '=HYPERLINK("x")', "a, b\nc")
FORMULA = "=+-@\t\r\n"

Predict = Callable[..., Any]


@pytest.fixture
def predict(run: Any, stocked: Path, backbone: Path) -> Predict:
    def call(refs: str, *arguments: object, input: str | None = None) -> Any:
        return run("predict", refs, *arguments, "--backbone", backbone, "--precision", "fp32", input=input)

    return call


def lines_of(records: list[Any]) -> Callable[[], Iterator[str]]:
    return lambda: map(json.dumps, records)


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_texts(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(f"{json.dumps({'text': text, 'id': n})}\n" for n, text in enumerate(texts)))
    return path


# ---- Formats


def test_a_csv_file_has_a_row_for_each_text_and_adapter_with_flat_columns(
    predict: Predict, tmp_path: Path
) -> None:
    file = tmp_path / "out.csv"
    assert predict("mood,names", *TEXTS, "--output", file).exit_code == 0
    rows = table_of(file)
    assert [(row["text"], row["adapter"]) for row in rows[::2]] == [
        ("the film is good", "mood@2"),
        ('\'=HYPERLINK("x")', "mood@2"),
        ("a, b\nc", "mood@2"),
    ]
    columns = ["text", "adapter", "label", "score", "scores.negative", "scores.positive", "entities"]
    assert list(rows[0]) == columns
    assert (rows[0]["entities"], rows[1]["label"]) == ("", "")
    assert all(set(entity) >= {"start", "end", "label"} for entity in json.loads(rows[1]["entities"]))


def test_cells_of_a_csv_file_are_the_values_of_the_json_lines(predict: Predict, tmp_path: Path) -> None:
    predict("mood", TEXTS[0], "--output", tmp_path / "out.csv")
    predict("mood", TEXTS[0], "--output", tmp_path / "out.jsonl")
    (row,), record = table_of(tmp_path / "out.csv"), json.loads((tmp_path / "out.jsonl").read_text())
    assert {"negative": float(row["scores.negative"]), "positive": float(row["scores.positive"])} == record[
        "scores"
    ]


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_any_text_comes_back_from_csv_with_an_apostrophe_only_before_formulas(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "out.csv"
    notes = write_output(path, "csv", lines_of([{"text": text} for text in texts]))
    formulas = [text for text in texts if text.startswith((*FORMULA, "＝", "＋", "－", "＠"))]
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["text"]
    assert [row[0] if row else "" for row in rows] == [
        f"'{text}" if text in formulas else text for text in texts
    ]
    assert sum(note.count for note in notes) == len(formulas)


def test_a_negative_number_is_not_a_formula(tmp_path: Path) -> None:
    write_output(
        tmp_path / "out.csv", "csv", lines_of([{"text": "a", "stars": -0.5, "good": False, "n": None}])
    )
    assert table_of(tmp_path / "out.csv") == [{"text": "a", "stars": "-0.5", "good": "false", "n": ""}]


def test_a_text_that_utf_8_cannot_express_is_an_escape_in_csv(tmp_path: Path) -> None:
    write_output(tmp_path / "out.csv", "csv", lines_of([{"text": "a\ud800b"}]))
    assert table_of(tmp_path / "out.csv") == [{"text": "a\\ud800b"}]


def test_a_thousand_rows_come_back_from_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    records = [
        {"text": f"=row {n}", "adapter": "mood@1", "label": "a", "scores": {"a": n / 7, "b": 1}, "big": 2**70}
        | ({"input": {"id": n, "mixed": n if n % 2 else "x"}} if n else {})
        for n in range(1000)
    ]
    write_output(tmp_path / "out.parquet", "parquet", lines_of(records))
    table = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["text"] for row in table] == [record["text"] for record in records]
    assert [row["scores.a"] for row in table] == [n / 7 for n in range(1000)]
    assert [row["input.id"] for row in table] == [None, *range(1, 1000)]
    assert [row["input.mixed"] for row in table[:4]] == [None, "1", "x", "3"]
    assert table[0]["big"] == str(2**70)


def test_parquet_is_written_by_the_command(predict: Predict, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert predict("mood,names", *TEXTS, "--output", tmp_path / "out.parquet").exit_code == 0
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.num_rows == 6
    assert str(table.schema.field("score").type) == "double"


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("out.xlsx", r"the suffix \.xlsx is unknown; expected \.jsonl \(JSON lines\), \.csv or \.parquet"),
        ("out", r"the name has no suffix; expected \.jsonl"),
        ("out.csv.gz", r"the suffix \.gz is unknown"),
    ],
)
def test_another_suffix_is_refused_with_those_that_are_known(name: str, fault: str) -> None:
    with pytest.raises(UsageError, match=f"--output {name}: {fault}"):
        format_of(Path(name))


def test_the_suffix_is_checked_before_a_model_is_loaded(predict: Predict, tmp_path: Path) -> None:
    done = predict("no-such-adapter", "good", "--output", tmp_path / "out.tsv")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "the suffix .tsv is unknown" in done.stderr


def test_more_columns_than_a_table_may_have_are_refused(tmp_path: Path) -> None:
    record = {"text": "a", "scores": {str(n): 0.0 for n in range(MOST_COLUMNS)}}
    with pytest.raises(UsageError, match=r"more than 10,000 different keys; write JSON lines instead"):
        write_output(tmp_path / "out.csv", "csv", lines_of([record]))


def test_two_values_for_one_column_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two values of a record would get the column 'input\.id'"):
        flat({"input.id": 1, "input": {"id": 2}})


# ---- Resume


def interrupt(predict: Predict, tmp_path: Path, name: str = "out.jsonl") -> tuple[Path, Path]:
    """Run a prediction that ends at a faulty line after one chunk; return the input, mended, and the output."""
    texts = [f"film {n}" for n in range(CHUNK + 3)]
    source = write_texts(tmp_path / "in.jsonl", texts)
    sound = source.read_text()
    source.write_text(sound.replace(f'"film {CHUNK + 1}"', "7"))
    done = predict("mood", "--input", source, "--output", tmp_path / name)
    assert done.exit_code == 1
    partial = tmp_path / f"{name}.partial"
    assert f"{partial} keeps {CHUNK} answered texts; run the command again with --resume" in done.stderr
    source.write_text(sound)
    return source, tmp_path / name


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_resume_gives_what_an_uninterrupted_command_gives(
    predict: Predict, tmp_path: Path, name: str
) -> None:
    source, output = interrupt(predict, tmp_path, name)
    whole = tmp_path / f"whole{output.suffix}"
    assert predict("mood", "--input", source, "--output", whole).exit_code == 0
    done = predict("mood", "--input", source, "--output", output, "--resume", "--json")
    assert (done.exit_code, json.loads(done.stdout)["texts"]) == (0, CHUNK + 3)
    assert output.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_answers_of_an_interrupted_command_are_not_overwritten(predict: Predict, tmp_path: Path) -> None:
    source, output = interrupt(predict, tmp_path)
    before = Path(f"{output}.partial").read_bytes()
    done = predict("mood", "--input", source, "--output", output)
    assert done.exit_code == 1
    assert "has the answers of an interrupted command; add --resume to continue it, or delete" in done.stderr
    assert Path(f"{output}.partial").read_bytes() == before


def test_resume_refuses_another_version_of_an_adapter(predict: Predict, tmp_path: Path) -> None:
    source, output = interrupt(predict, tmp_path)
    done = predict("mood@1", "--input", source, "--output", output, "--resume")
    assert done.exit_code == 1
    assert "was made with adapters mood@2, this command has mood@1; give the same settings" in done.stderr


def test_resume_refuses_another_input_and_names_its_first_line(predict: Predict, tmp_path: Path) -> None:
    source, output = interrupt(predict, tmp_path)
    source.write_text(source.read_text().replace('"film 1"', '"another film"'))
    done = predict("mood", "--input", source, "--output", output, "--resume")
    assert done.exit_code == 1
    assert re.search(r"in\.jsonl:2: the input has changed: .* for another text 2;", done.stderr)


def test_a_line_that_was_cut_off_is_computed_again(predict: Predict, tmp_path: Path) -> None:
    source, output = interrupt(predict, tmp_path)
    partial = Path(f"{output}.partial")
    partial.write_bytes(partial.read_bytes()[:-20])
    done = predict("mood", "--input", source, "--output", output, "--resume")
    assert done.exit_code == 0
    ids = [json.loads(line)["input"]["id"] for line in output.read_text().splitlines()]
    assert ids == list(range(CHUNK + 3))


def test_resume_without_an_interrupted_command_starts_from_the_beginning(
    predict: Predict, tmp_path: Path
) -> None:
    done = predict("mood", "good", "--output", tmp_path / "out.jsonl", "--resume")
    assert done.exit_code == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1


def test_a_command_that_was_killed_before_its_first_answer_is_not_in_the_way(
    predict: Predict, tmp_path: Path
) -> None:
    partial = tmp_path / "out.jsonl.partial"
    partial.write_text('{"adapters": ["mood@1"], "--url": null}\n')
    assert predict("mood", "good", "--output", tmp_path / "out.jsonl").exit_code == 0
    assert not partial.exists()


@pytest.mark.parametrize("options", [(), ("--resume",)])
def test_an_unknown_adapter_leaves_nothing_behind(
    predict: Predict, tmp_path: Path, options: tuple[str, ...]
) -> None:
    done = predict("no-such-adapter", "good", "--output", tmp_path / "out.jsonl", *options)
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("out.*"))


def test_resume_needs_an_output(predict: Predict) -> None:
    done = predict("mood", "good", "--resume")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--resume continues the file of --output; also give --output" in done.stderr


def test_two_commands_cannot_write_one_output(predict: Predict, tmp_path: Path) -> None:
    with partial_output(tmp_path / "out.jsonl", resume=False):
        done = predict("mood", "good", "--output", tmp_path / "out.jsonl")
    assert done.exit_code == 1
    assert "another command is writing" in done.stderr


def test_a_foreign_file_in_place_of_the_answers_is_refused_and_kept(predict: Predict, tmp_path: Path) -> None:
    partial = tmp_path / "out.jsonl.partial"
    partial.write_text("[1, 2]\n")
    done = predict("mood", "good", "--output", tmp_path / "out.jsonl", "--resume")
    assert done.exit_code == 1
    assert "is not an unfinished output of this command; delete it" in done.stderr
    assert partial.read_text() == "[1, 2]\n"


# ---- Summary


def test_the_summary_counts_texts_and_labels(predict: Predict, tmp_path: Path) -> None:
    done = predict("mood,names", "Ada in London", "Ada", "--output", tmp_path / "out.jsonl")
    first, *labels = done.stderr.splitlines()
    assert re.fullmatch(r"2 texts in \d+\.\d s, written to .*/out\.jsonl", first)
    assert re.fullmatch(r"mood@2: (negative|positive) \d(, (negative|positive) \d)?", labels[0])


def test_the_summary_as_json_has_the_notes(predict: Predict, tmp_path: Path) -> None:
    done = predict("mood", *TEXTS, "--output", tmp_path / "out.csv", "--json")
    summary = json.loads(done.stdout)
    assert list(summary) == ["output", "texts", "seconds", "labels", "notes"]
    assert sum(summary["labels"]["mood@2"].values()) == 3
    assert [(note["kind"], note["count"]) for note in summary["notes"]] == [("formula-cells", 1)]
    assert "1 cell that a spreadsheet would compute got a leading apostrophe" in done.stderr


def test_texts_from_a_pipe_have_a_summary_on_stderr(predict: Predict) -> None:
    done = predict("mood", "--json", input="good\nbad\n")
    assert len(done.stdout.splitlines()) == 2
    assert re.search(r"^2 texts in \d+\.\d s$", done.stderr, re.MULTILINE)


def test_a_text_on_the_command_line_has_no_summary(predict: Predict) -> None:
    assert predict("mood", "good").stderr == ""
