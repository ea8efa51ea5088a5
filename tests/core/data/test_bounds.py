"""Limits on what is read, each with file and line."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from pathlib import Path

import pytest

from onetrunk.core.data.files import byte_blocks
from onetrunk.core.data.formats.tables import MAX_COLUMNS
from onetrunk.core.data.lines import MAX_LINE, read_lines
from onetrunk.core.data.readers import read_records
from onetrunk.core.errors import DataError


def test_an_endless_line_is_refused_before_it_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "a"}\n')
        file.truncate(2**36)  # a sparse file of zeros
    with pytest.raises(DataError, match=r"a\.jsonl:2: "):
        list(read_records(path))


def test_a_line_may_be_as_long_as_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x" * 1000 + "\n" + "x" * 1001)
    lines = read_lines(path, longest=1000)
    assert next(lines) == (1, "x" * 1000 + "\n")
    with pytest.raises(
        DataError, match=r"a\.txt:2: the line has more than 1,000 characters, which is the limit"
    ):
        next(lines)


def test_the_limit_of_a_line_is_64_mebi_characters(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        for _ in range(65):
            file.write(b"x" * 2**20)
    with pytest.raises(DataError, match=rf"a\.jsonl:1: the line has more than {MAX_LINE:,} characters"):
        list(read_records(path))


def bomb(path: Path, line: bytes, size: int) -> None:
    packer = zlib.compressobj(9, wbits=31)
    with path.open("wb") as file:
        for _ in range(size // 2**20):
            file.write(packer.compress(line * (2**20 // len(line))))
        file.write(packer.flush())


def test_a_gzip_bomb_of_blank_lines_is_refused(tmp_path: Path) -> None:
    bomb(tmp_path / "a.jsonl.gz", b" " * 1023 + b"\n", 2**25)
    limits = rf"{byte_blocks.UNZIPPED_FREE // 2**20} MiB, or {byte_blocks.MAX_RATIO} times"
    with pytest.raises(DataError, match=rf"a\.jsonl\.gz: decompresses to over .* {limits}.*gunzip"):
        list(read_records(tmp_path / "a.jsonl.gz"))


def test_an_ordinary_gzip_file_has_no_limit_of_its_ratio(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n' * 100_000))
    assert sum(1 for _ in read_records(tmp_path / "a.jsonl.gz")) == 100_000


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.conll", "a.txt"])
def test_files_are_streamed_in_little_memory(tmp_path: Path, name: str) -> None:
    row = {
        "a.jsonl": '{"text": "' + "x" * 1000 + '"}\n',
        "a.csv": "x" * 1000 + ",a\n",
        "a.tsv": "x" * 1000 + "\ta\n",
        "a.conll": ("x" * 400 + "\tB-p\n") * 3 + "\n",
        "a.txt": "x" * 1000 + "\n",
    }[name]
    header = {"a.csv": "text,label\n", "a.tsv": "text\tlabel\n"}.get(name, "")
    (tmp_path / name).write_text(header + row * 12_000)
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_records(tmp_path / name))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (count, peak < 6 * 2**20) == (12_000, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested deeper than 64 levels"),
        ('{"a": ' + "9" * 10_000 + "}", "a whole number with too many digits"),
        ('{"a": 1e999}', "has the number 1e999, which is too large"),
    ],
)
def test_deep_json_and_long_numbers_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(DataError, match=rf"a\.jsonl:1: the record .*{message}"):
        list(read_records(tmp_path / "a.jsonl"))


def test_a_row_of_many_more_cells_than_columns_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "x," * MAX_COLUMNS * 10 + "\n")
    with pytest.raises(DataError, match=r"a\.csv:2: has 100001 cells; expected 2"):
        list(read_records(tmp_path / "a.csv"))
