from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.data.readers import SourceRecord, read_records
from onetrunk.core.errors import DataError, UsageError

FILE_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def read(path: Path, content: str | bytes, format: str | None = None) -> list[SourceRecord]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_records(path, ReadOptions(format=format)))


def records_or_fault(path: Path, content: bytes) -> list[SourceRecord] | DataError:
    try:
        return read(path, content)
    except DataError as fault:
        return fault


def lines_of(records: list[SourceRecord]) -> list[int]:
    return [int(record.where.rpartition(":")[2]) for record in records]


def from_stdin(content: str | bytes) -> list[dict[str, Any]]:
    program = (
        "import json; from onetrunk.core.data.readers import read_records\n"
        "for r in read_records('-'): print(json.dumps({'where': r.where, 'record': r.record}))"
    )
    raw = content.encode() if isinstance(content, str) else content
    done = subprocess.run([sys.executable, "-c", program], input=raw, capture_output=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_jsonl_gives_each_object_with_its_line_and_skips_blank_lines(tmp_path: Path) -> None:
    records = read(tmp_path / "a.jsonl", '\n{"text": "a"}\n  \n{"text": "b"}')
    assert [record.record for record in records] == [{"text": "a"}, {"text": "b"}]
    assert [record.where for record in records] == [f"{tmp_path}/a.jsonl:2", f"{tmp_path}/a.jsonl:4"]


def test_a_json_list_gives_each_object_with_its_first_line(tmp_path: Path) -> None:
    records = read(tmp_path / "a.json", '\n[\n  {"a": 1},\n  {\n    "a": 2\n  }, {"a": 3}\n]\n')
    assert [record.record["a"] for record in records] == [1, 2, 3]
    assert lines_of(records) == [3, 4, 6]


def test_a_json_file_may_hold_jsonl(tmp_path: Path) -> None:
    assert lines_of(read(tmp_path / "a.json", '{"a": 1}\n\n{"a": 2}\n')) == [1, 3]


def test_a_quoted_cell_may_hold_line_ends_and_the_row_counts_from_its_first_line(tmp_path: Path) -> None:
    records = read(tmp_path / "a.csv", 'text,label\n"one\ntwo, ""three""",x\n\nfour,y\n')
    assert [tuple(record.record.values()) for record in records] == [
        ('one\ntwo, "three"', "x"),
        ("four", "y"),
    ]
    assert lines_of(records) == [2, 5]


@pytest.fixture
def limit_of_csv() -> Iterator[None]:
    """Restore the default limit of the csv module, which the commands raise in their process."""
    before = csv.field_size_limit(131_072)
    yield
    csv.field_size_limit(before)


@pytest.mark.usefixtures("limit_of_csv")
def test_a_cell_may_be_as_long_as_the_csv_module_allows(tmp_path: Path) -> None:
    (record,) = read(tmp_path / "a.csv", f"text,label\n{'x' * 131_072},y\n")
    assert len(record.record["text"]) == 131_072
    with pytest.raises(
        DataError, match=r"a\.csv:2: .*field limit.*raise the limit with csv\.field_size_limit"
    ):
        read(tmp_path / "a.csv", f"text,label\n{'x' * 131_073},y\n")


def test_tsv_is_separated_by_tabs(tmp_path: Path) -> None:
    (record,) = read(tmp_path / "a.tsv", "text\tlabel\na, b\tx\n")
    assert record.record == {"text": "a, b", "label": "x"}


@pytest.mark.parametrize("name", ["a.conll", "a.bio", "a.iob", "a.iob2", "a.txt", "A.CONLL"])
def test_every_conll_suffix_is_read_as_conll(tmp_path: Path, name: str) -> None:
    (record,) = read(tmp_path / name, "Ada\tB-person\n")
    assert record.record == {"words": ["Ada"], "tags": ["B-person"]}


def test_ndjson_is_jsonl(tmp_path: Path) -> None:
    assert len(read(tmp_path / "a.ndjson", '{"a": 1}\n')) == 1


def test_the_format_said_wins_over_the_suffix(tmp_path: Path) -> None:
    assert read(tmp_path / "a.txt", '{"a": 1}\n', format="jsonl")[0].record == {"a": 1}


def test_gzip_files_are_read_as_what_they_hold(tmp_path: Path) -> None:
    (record,) = read(tmp_path / "a.jsonl.gz", gzip.compress(b'{"a": "\xc3\xa9"}\n', mtime=0))
    assert record.record == {"a": "é"}


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    (record,) = read(tmp_path / "a.csv", b"\xef\xbb\xbftext\nhi\n")
    assert record.record == {"text": "hi"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "hi", "label": "x"}\n'),
        ("a.csv", "text,label\nhi,x\n"),
        ("a.conll", "hi\tB-x\n\n"),
    ],
)
def test_crlf_reads_as_lf(tmp_path: Path, name: str, content: str) -> None:
    records = [record.record for record in read(tmp_path / name, content)]
    assert [r.record for r in read(tmp_path / name, content.replace("\n", "\r\n"))] == records


def test_other_unicode_line_separators_do_not_end_a_line(tmp_path: Path) -> None:
    (record,) = read(tmp_path / "a.jsonl", '{"text": "a\u2028b\x85c"}\n')
    assert record.record == {"text": "a\u2028b\x85c"}


@pytest.mark.parametrize(
    ("content", "where", "record"),
    [
        ('\n{"text": "a"}\n', "stdin:2", {"text": "a"}),
        ('[{"text": "a"}]', "stdin:1", {"text": "a"}),
        ('[\n{"text": "a"}]', "stdin:2", {"text": "a"}),
        ("\nlabel,text\nx,a\n", "stdin:3", {"label": "x", "text": "a"}),
        ('"text"\tlabel\na\tx\n', "stdin:2", {"text": "a", "label": "x"}),
        ("text\tO\nAda\tB-p\n", "stdin:1", {"words": ["text", "Ada"], "tags": ["O", "B-p"]}),
        ("[ O\n] O\n", "stdin:1", {"words": ["[", "]"], "tags": ["O", "O"]}),
    ],
)
def test_the_first_line_tells_the_format_of_stdin(content: str, where: str, record: object) -> None:
    assert from_stdin(content) == [{"where": where, "record": record}]


@pytest.mark.parametrize("content", ['{"text": "é"}\n' * 3000, "\ntext,label\n" + "é,x\n" * 3000])
def test_gzip_on_stdin_is_read_as_what_it_holds(content: str) -> None:
    found = from_stdin(gzip.compress(content.encode(), mtime=0))
    assert len(found) == 3000
    assert found == from_stdin(content)


class Pipe:
    """A named pipe that `content` is written into once, from a process of its own."""

    def __init__(self, path: Path, content: bytes) -> None:
        os.mkfifo(path)
        line = [sys.executable, "-c", "import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())"]
        self._writer = subprocess.Popen([*line, path], stdin=subprocess.PIPE)
        assert self._writer.stdin is not None
        self._writer.stdin.write(content)
        self._writer.stdin.close()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._writer.wait(30)


@pytest.mark.parametrize(
    "content",
    [
        '{"text": "a"}\n',
        "text,label\na,x\n",
        "Ada\tB-p\n",
        gzip.compress(b'{"text": "a"}\n').decode("latin-1"),
    ],
    ids=["jsonl", "csv", "conll", "gzip"],
)
def test_a_pipe_without_a_suffix_is_read_as_stdin_is(tmp_path: Path, content: str) -> None:
    raw, pipe = content.encode("latin-1"), tmp_path / "63"
    with Pipe(pipe, raw):
        found = [{"where": each.where, "record": each.record} for each in read_records(pipe)]
    expected = [{**each, "where": each["where"].replace("stdin", str(pipe))} for each in from_stdin(raw)]
    assert found == expected


def test_a_pipe_with_a_suffix_is_read_as_what_it_says(tmp_path: Path) -> None:
    with Pipe(tmp_path / "a.tsv", b"text\na,b\n"):
        assert [each.record for each in read_records(tmp_path / "a.tsv")] == [{"text": "a,b"}]


def test_an_empty_device_has_no_records() -> None:
    with pytest.raises(DataError, match=f"{os.devnull}: is empty"):
        list(read_records(os.devnull))


def test_half_a_gzip_file_on_stdin_is_told() -> None:
    whole = gzip.compress(b'{"text": "a"}\n' * 3000, mtime=0)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        from_stdin(whole[: len(whole) // 2])
    assert b"DataError: stdin: is not a complete gzip file" in caught.value.stderr


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            '{"a": 1}\n{"a" 2}\n',
            r"a\.jsonl:2: invalid JSON at column 6: .*one JSON object per line",
        ),
        ("a.jsonl", '{"a": 1\n', r"a\.jsonl:1: invalid JSON at column 8"),
        ("a.jsonl", '{"a": 1} {"a": 2}\n', r"a\.jsonl:1: invalid JSON at column 10: Extra data"),
        ("a.jsonl", '{"a": 1}\n[1]\n', r"a\.jsonl:2: is a list; expected an object"),
        ("a.jsonl", "3\n", r"a\.jsonl:1: is a number; expected an object"),
        ("a.jsonl", '{"a": 1, "b": {"c": 1, "c": 2}}\n', r"a\.jsonl:1: the record has the key 'c' twice"),
        ("a.jsonl", '{"a": NaN}\n', r"a\.jsonl:1: the record has the number NaN, only finite"),
        (
            "a.jsonl",
            r'{"a": "\ud83d"}',
            r"a\.jsonl:1: the record has half a surrogate pair, .* in '\\ud83d'; remove it",
        ),
        ("a.jsonl", "[" * 200_000, r"a\.jsonl:1: the record is nested deeper than 64"),
        ("a.jsonl", "\n \n", r"a\.jsonl: has no records"),
        ("a.jsonl", "", r"a\.jsonl: has no records"),
        ("a.json", "", r"a\.json: has no records"),
        ("a.json", "[\n]", r"a\.json: has no records"),
        ("a.json", '[{"a": 1}\n {"a": 2}]', r"a\.json:2: invalid JSON at column 2: expected ',' or '\]'"),
        ("a.json", '[{"a": 1},\n', r"a\.json:2: invalid JSON at column 1"),
        ("a.json", '[{"a": 1}\n', r"a\.json:2: invalid JSON at column 1: expected ',' or '\]'"),
        ("a.json", '[{"a": 1}]\n]', r"a\.json:2: invalid JSON at column 1: expected the end of the file"),
        ("a.json", '[{"a": 1},\n{\n"b":}]', r"a\.json:3: invalid JSON at column 5"),
        ("a.json", '[{"a": 1},\n{\n"b": 1, "b": 2}]', r"a\.json:2: the record has the key 'b' twice"),
        ("a.json", '[{"a": 1},\n"b"]', r"a\.json:2: is a string; expected an object"),
        ("a.csv", "", r"a\.csv: has no records"),
        ("a.csv", "text,label\n\n", r"a\.csv: has a header \(text, label\) but no rows"),
        ("a.csv", "text,text\na,b\n", r"a\.csv:1: the header names column 'text' twice"),
        ("a.csv", "\ntext,,x\na,b,c\n", r"a\.csv:2: column 2 of the header has no name"),
        (
            "a.csv",
            "text,label\na,x\na,b,c\n",
            r"a\.csv:3: has 3 cells; expected 2, as in the header: text, label",
        ),
        ("a.csv", 'text,label\n"a\nb"\n', r"a\.csv:2: has 1 cell; expected 2"),
        ("a.csv", 'text\n"a\nb\n', r"a\.csv:2: cannot be parsed as a row: .*must end with"),
        ("a.csv", "text\na\rb\n", r"a\.csv:2: cannot be parsed as a row"),
        ("a.conll", "\n\n", r"a\.conll: has no records"),
        ("a.csv", "text\na\0\n", r"a\.csv:2: byte 2 is NUL"),
        (
            "a.xlsx",
            "x",
            r"a\.xlsx: has the unknown suffix '\.xlsx'; expected one of \.jsonl, .*\.txt, .*; text files also",
        ),
        ("a", "x", r"a: has no suffix; expected one of"),
        ("a.csv.gz", b"text\nhi\n", r"a\.csv\.gz: is not a complete gzip file"),
        (
            "a.csv.gz",
            gzip.compress(b"text\nhi\n" * 99, mtime=0)[:30],
            r"a\.csv\.gz: is not a complete gzip file",
        ),
    ],
)
def test_a_broken_file_is_named_with_line_and_remedy(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / name, content)


def test_a_fault_carries_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="invalid JSON") as caught:
        read(tmp_path / "a.jsonl", '{"a": 1}\n{\n')
    assert caught.value.where == f"{tmp_path}/a.jsonl:2"


@pytest.mark.parametrize("name", ["missing.jsonl", "missing", "missing.jsonl.gz"])
def test_a_missing_file_is_said_to_be_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"{name}: no such file"):
        list(read_records(tmp_path / name))


@pytest.mark.parametrize("name", ["folder", "folder.csv"])
def test_a_folder_is_said_to_be_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=f"{name}: is a folder"):
        list(read_records(tmp_path / name))


@pytest.mark.parametrize("name", ["a.jsonl", "a"])
def test_a_file_that_may_not_be_read_is_said_to_be_so(forbidden: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot be read: permission denied; check its permissions"):
        list(read_records(forbidden / name))


@pytest.mark.parametrize("suffix", ["", ".jsonl"])
def test_a_name_that_is_too_long_is_said_to_be_so(suffix: str) -> None:
    with pytest.raises(DataError, match=f"aaa{suffix}: cannot be read: File name too long$"):
        list(read_records("a" * 5000 + suffix))


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown format 'xml'; expected one of jsonl, json, csv"):
        read(tmp_path / "a.jsonl", "{}", format="xml")


def test_records_before_a_fault_are_given(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{\n')
    assert next(read_records(path)).record == {"a": 1}


@given(texts=st.lists(FILE_TEXT, min_size=1), ascii_only=st.booleans())
@settings(max_examples=50, deadline=None)
def test_jsonl_gives_back_any_unicode_text(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], ascii_only: bool
) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    lines = [json.dumps({"text": text}, ensure_ascii=ascii_only) for text in texts]
    assert [r.record["text"] for r in read(path, "\n".join(lines))] == texts


@given(rows=st.lists(st.tuples(FILE_TEXT, FILE_TEXT), min_size=1), delimiter=st.sampled_from(",\t"))
@settings(max_examples=50, deadline=None)
def test_csv_and_tsv_give_back_any_unicode_text(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
    path = tmp_path_factory.mktemp("csv") / ("a.csv" if delimiter == "," else "a.tsv")
    assert [tuple(r.record.values()) for r in read(path, out.getvalue())] == rows


@given(
    content=st.binary(max_size=60), name=st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.tsv", "a.conll"])
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_records_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    outcome = records_or_fault(tmp_path_factory.mktemp("any") / name, content)
    assert name in str(outcome)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.conll"])
def test_a_hundred_thousand_lines_take_seconds(tmp_path: Path, name: str) -> None:
    row = '{"text": "a", "label": "b"}'
    content = {
        "a.jsonl": f"{row}\n" * 100_000,
        "a.json": "[" + ",\n".join([row] * 100_000) + "]",
        "a.csv": "text,label\n" + "a,b\n" * 100_000,
        "a.conll": "a\tB-x\n\n" * 100_000,
    }[name]
    start = time.process_time()
    assert len(read(tmp_path / name, content)) == 100_000
    assert time.process_time() - start < 10
