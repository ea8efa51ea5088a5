"""CSV and TSV as spreadsheets, pandas and people write them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetrunk.core.data.formats.tables import MAX_COLUMNS
from onetrunk.core.data.notes import Note
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.data.readers import read_records
from onetrunk.core.errors import DataError, UsageError

CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"))


def read(path: Path, content: str, **options: object) -> tuple[list[tuple[str, ...]], list[int], list[Note]]:
    path.write_bytes(content.encode())
    notes: list[Note] = []
    records = list(read_records(path, ReadOptions(**options), notes))  # type: ignore[arg-type]
    rows = [tuple(each.record.values()) for each in records]
    return rows, [int(each.where.rpartition(":")[2]) for each in records], notes


@pytest.mark.parametrize(
    ("name", "delimiter", "word"),
    [
        ("a.csv", ";", "semicolon"),
        ("a.csv", "\t", "tab"),
        ("a.csv", "|", "vertical bar"),
        ("a.tsv", ",", "comma"),
    ],
)
def test_the_delimiter_of_the_header_is_taken_with_a_note(
    tmp_path: Path, name: str, delimiter: str, word: str
) -> None:
    rows, _, (note,) = read(tmp_path / name, f"text{delimiter}label\nhello there{delimiter}greet\n")
    assert rows == [("hello there", "greet")]
    assert (note.kind, word in note.message) == ("delimiter", True)


def test_a_semicolon_inside_cells_of_a_csv_stays_text(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "text,label\na; b,x\n")[0] == [("a; b", "x")]


def test_a_single_column_is_not_divided(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "text\none; two\nthree\n")[0] == [("one; two",), ("three",)]


@pytest.mark.parametrize("option", ["\\t", "tab", "\t"])
def test_the_option_forces_the_delimiter(tmp_path: Path, option: str) -> None:
    rows, _, notes = read(tmp_path / "a.csv", "text,a\tlabel\nb,c\tx\n", delimiter=option)
    assert (rows, notes) == ([("b,c", "x")], [])


@pytest.mark.parametrize("option", ["", ";;", '"', "\n"])
def test_another_delimiter_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(UsageError, match=r"--delimiter is .*; expected one character"):
        read(tmp_path / "a.csv", "text\na\n", delimiter=option)


def test_the_first_line_of_excel_names_the_delimiter(tmp_path: Path) -> None:
    rows, lines, (note,) = read(tmp_path / "a.csv", "sep=;\r\ntext;label\r\na,b;x\r\n")
    assert (rows, lines, note.kind) == ([("a,b", "x")], [3], "delimiter")


def test_the_first_line_of_excel_may_name_the_usual_delimiter(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "sep=,\r\ntext,label\r\na,x\r\n") == ([("a", "x")], [3], [])


def test_quotation_marks_are_text_in_tsv(tmp_path: Path) -> None:
    content = 'text\tlabel\n"Great" she said\tpos\n"Bad\tneg\nworse"\tneg\n'
    rows, lines, _ = read(tmp_path / "a.tsv", content)
    assert rows == [('"Great" she said', "pos"), ('"Bad', "neg"), ('worse"', "neg")]
    assert lines == [2, 3, 4]


def test_a_cell_enclosed_in_quotation_marks_is_text_in_tsv_with_a_note(tmp_path: Path) -> None:
    rows, _, (note,) = read(tmp_path / "a.tsv", 'text\tlabel\nhi\tx\n"Great movie"\tpos\n')
    assert rows[1] == ('"Great movie"', "pos")
    assert (note.kind, note.count, note.where) == ("quotation-marks", 1, f"{tmp_path}/a.tsv:3")


@pytest.mark.parametrize(
    "content",
    [
        '"text"\t"label"\n"Great"\t"pos"\n',
        'text\tlabel\nplain\tpos\n"He said ""hi"""\tpos\n',
        'text\tlabel\n"two\nlines"\tpos\nplain\tpos\n',
        'text\tlabel\n"one\ttab"\tpos\nplain\tpos\n',
    ],
)
def test_a_tsv_that_only_a_csv_writer_writes_is_read_as_csv(tmp_path: Path, content: str) -> None:
    rows, _, notes = read(tmp_path / "a.tsv", content)
    expected = [tuple(row) for row in csv.reader(io.StringIO(content, newline=""), delimiter="\t")]
    assert (rows, notes) == (expected[1:], [])


def test_quoting_csv_forces_enclosed_cells_in_tsv(tmp_path: Path) -> None:
    assert read(tmp_path / "a.tsv", 'text\tlabel\n"Great"\tpos\n', quoting="csv")[0] == [("Great", "pos")]


def test_quoting_none_makes_quotation_marks_text_in_csv(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", 'text,label\n"Great" she,x\n', quoting="none")[0] == [
        ('"Great" she', "x")
    ]


def test_a_stray_quotation_mark_in_csv_is_refused_with_the_option(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"a\.csv:2: cannot be parsed .*; if quotation marks are text, --quoting none"
    ):
        read(tmp_path / "a.csv", 'text,label\n"Great" she said,pos\n')


def test_the_index_column_of_pandas_is_left_out_with_a_note(tmp_path: Path) -> None:
    rows, _, (note,) = read(tmp_path / "a.csv", ",text,label\n0,a,x\n1,b,y\n")
    assert (rows, note.kind) == ([("a", "x"), ("b", "y")], "index-column")


def test_trailing_empty_columns_and_blank_rows_of_excel_are_left_out(tmp_path: Path) -> None:
    rows, lines, notes = read(tmp_path / "a.csv", "text,label,,\na,x,,\n,,,\nb,y,,\n")
    assert (rows, lines) == ([("a", "x"), ("b", "y")], [2, 4])
    assert [(note.kind, note.count) for note in notes] == [("empty-columns", 2), ("blank-rows", 1)]


def test_a_cell_below_no_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.csv:3: has 4 cells; expected 2"):
        read(tmp_path / "a.csv", "text,label,,\na,x,,\nb,y,,z\n")


def test_the_header_may_be_repeated_by_cat(tmp_path: Path) -> None:
    rows, _, (note,) = read(tmp_path / "a.csv", "text,label\na,x\ntext,label\nb,y\n")
    assert (rows, note.kind, note.count) == ([("a", "x"), ("b", "y")], "repeated-headers", 1)


def test_a_title_above_the_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"a\.csv:2: is a second header \(text, label\); remove the lines above it"
    ):
        read(tmp_path / "a.csv", "My survey,2024\ntext,label\na,x\n")


@pytest.mark.parametrize("value", ["NA", "null", "None", "nan", "N/A", "007", "1.0", "True", "", " "])
def test_cells_are_text_as_they_are_written(tmp_path: Path, value: str) -> None:
    assert read(tmp_path / "a.csv", f"text,label\n{value},x{value}\n")[0] == [(value, f"x{value}")]


def test_a_header_of_a_million_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=rf"a\.csv:1: the header has 1,000,000 columns; at most {MAX_COLUMNS:,}"
    ):
        read(tmp_path / "a.csv", ",".join(map(str, range(1_000_000))) + "\n")


@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1), delimiter=st.sampled_from(",;\t|"))
@settings(max_examples=100, deadline=None)
def test_what_the_csv_module_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows([("text", "label"), *rows])
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    expected = [row for row in rows if any(row) and row != ("text", "label")]
    if expected:
        assert read(path, out.getvalue(), delimiter=delimiter, quoting="csv")[0] == expected


@given(
    rows=st.lists(
        st.tuples(CELL.map(lambda cell: cell.translate({9: " ", 10: " ", 13: " "})), CELL), min_size=1
    )
)
@settings(max_examples=100, deadline=None)
def test_tsv_without_quoting_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    plain = [(text, f"label {number}") for number, (text, _) in enumerate(rows)]
    content = "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in plain)
    path = tmp_path_factory.mktemp("tsv") / "a.tsv"
    assert read(path, content, quoting="none")[0] == plain
