"""1,000 rows through CSV, TSV, JSONL, JSON, fastText and CoNLL, there and back, in several encodings."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.data.readers import read_records
from onetrunk.core.tasks.iob2 import to_iob2
from tests.core.data.formats.thousand_rows import Row, labels_of, rows


def table(delimiter: str, quoting: int = csv.QUOTE_MINIMAL) -> Callable[[list[Row]], str]:
    def written(some: list[Row]) -> str:
        out = io.StringIO(newline="")
        pairs = [(row.text, row.label) for row in some]
        csv.writer(out, delimiter=delimiter, quoting=quoting).writerows([("text", "label"), *pairs])  # type: ignore[arg-type]
        return out.getvalue()

    return written


def records(some: list[Row]) -> list[dict[str, str]]:
    return [{"text": row.text, "label": row.label} for row in some]


WRITERS: dict[str, Callable[[list[Row]], str]] = {
    "a.csv": table(","),
    "semicolons.csv": table(";"),
    "bars.csv": table("|"),
    "all.csv": table(",", csv.QUOTE_ALL),
    "a.tsv": table("\t"),
    "all.tsv": table("\t", csv.QUOTE_ALL),
    "a.jsonl": lambda some: "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records(some)),
    "ascii.jsonl": lambda some: "".join(json.dumps(each) + "\n" for each in records(some)),
    "a.json": lambda some: json.dumps(records(some), ensure_ascii=False),
    "indented.json": lambda some: json.dumps(records(some), ensure_ascii=False, indent=2),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb18030"])
@pytest.mark.parametrize("name", WRITERS)
def test_texts_and_labels_come_back(tmp_path: Path, name: str, encoding: str) -> None:
    some = [*rows()]
    path = tmp_path / name
    path.write_bytes(WRITERS[name](some).encode(encoding))
    options = ReadOptions(encoding="gb18030" if encoding == "gb18030" else None)
    assert labels_of(path, options) == [(row.text, row.label) for row in some]


def test_tsv_without_quotation_marks_comes_back(tmp_path: Path) -> None:
    some = [row for row in rows() if "\t" not in row.text]
    path = tmp_path / "a.tsv"
    path.write_bytes("\n".join(["text\tlabel", *(f"{row.text}\t{row.label}" for row in some)]).encode())
    assert labels_of(path) == [(row.text, row.label) for row in some]


def test_texts_of_fasttext_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("".join(f"__label__{row.label} {row.text}\n" for row in rows()).encode())
    assert labels_of(path) == [(row.text.strip(), row.label) for row in rows()]


@pytest.mark.parametrize("gap", ["\t", " "])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_words_and_tags_of_conll_come_back(tmp_path: Path, gap: str, newline: str) -> None:
    sentences = [(row.text.split(), _tags(row)) for row in rows()]
    lines = [
        line
        for words, tags in sentences
        for line in (*(f"{word}{gap}{tag}" for word, tag in zip(words, tags, strict=True)), "")
    ]
    path = tmp_path / "a.txt"
    path.write_bytes("".join(line + newline for line in lines).encode())
    found = [(each.record["words"], each.record["tags"]) for each in read_records(path)]
    assert found == [(words, to_iob2(tags)) for words, tags in sentences]


def _tags(row: Row) -> list[str]:
    kinds = {row.text[start:end].split()[0]: kind for start, end, kind in row.entities}
    return [f"B-{kinds[word]}" if word in kinds else "O" for word in row.text.split()]
