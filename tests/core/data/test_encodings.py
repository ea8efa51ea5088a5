"""Encodings, line ends and byte order marks of data files."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from onetrunk.core.data.notes import Note
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.data.readers import read_records
from onetrunk.core.errors import DataError, UsageError

GERMAN = "text,label\nDas Essen war schön und günstig,gut\nDer Kellner war unhöflich,schlecht\n"
FRENCH = "text,label\nC’était très bon,pos\nà éviter,neg\nLe café est à côté,pos\n"
CHINESE = (
    "text,label\n这家餐厅很好吃,正面\n服务太差了,负面\n我想订一张去北京的机票,订票\n今天天气怎么样,天气\n"
)
TAIWANESE = (
    "text,label\n這家餐廳很好吃,正面\n服務太差了,負面\n我想訂一張去台北的機票,訂票\n今天天氣怎麼樣,天氣\n"
)
TURKISH = "text,label\nçok güzel bir gün,x\nşimdi İstanbul,y\n"
JAPANESE = "text,label\nこのレストランはとても美味しい,良い\nサービスが悪い,悪い\n"
KOREAN = "text,label\n이 식당은 정말 맛있어요,긍정\n서비스가 나쁘다,부정\n"
POLISH = "text,label\nZażółć gęślą jaźń,pos\nŁódź jest piękna,neg\n"


def read(
    path: Path, raw: bytes, encoding: str | None = None
) -> tuple[list[tuple[str, ...]], list[int], list[Note]]:
    path.write_bytes(raw)
    notes: list[Note] = []
    records = list(read_records(path, ReadOptions(encoding=encoding), notes))
    lines = [int(each.where.rpartition(":")[2]) for each in records]
    return [tuple(each.record.values()) for each in records], lines, notes


def rows_of(table: str) -> list[tuple[str, ...]]:
    return [tuple(line.split(",")) for line in table.splitlines()[1:]]


@pytest.mark.parametrize(
    ("table", "encoding", "named"),
    [
        (GERMAN, "cp1252", "cp1252"),
        (FRENCH, "cp1252", "cp1252"),
        ("text,label\nthe café was nice,pos\nbad,neg\n", "latin-1", "cp1252"),
        ("text,label\ncosts 5 € only,pos\nbad,neg\n", "cp1252", "cp1252"),
        (POLISH, "cp1250", "cp1250"),
        (TURKISH, "cp1254", "cp1254"),
        ("text,label\n你好，世界。今天天气很好,x\n再见,y\n", "gbk", "gb18030"),
        ("text,label\n今日はいい天気ですね,x\nテストです,y\n", "shift_jis", "cp932"),
        ("text,label\nПривет мир как дела,x\nХорошая погода сегодня,y\n", "cp1251", "cp1251"),
        ("text,label\nγειά σου κόσμε,x\nκαλημέρα σας,y\n", "cp1253", "cp1253"),
        (CHINESE, "gb18030", "gb18030"),
        (CHINESE, "gbk", "gb18030"),
        (TAIWANESE, "big5", "big5"),
        (JAPANESE, "shift_jis", "cp932"),
        (JAPANESE, "euc_jp", "euc_jp"),
        (KOREAN, "euc_kr", "cp949"),
        (JAPANESE, "iso2022_jp", "iso2022_jp"),
        (GERMAN, "utf-16-le", "utf-16-le"),
        (CHINESE, "utf-16-be", "utf-16-be"),
        (CHINESE, "utf-16", "utf-16-le"),
        (GERMAN, "utf-32", "utf-32-le"),
    ],
)
def test_a_file_that_is_not_utf_8_is_read_with_a_note_that_names_the_encoding(
    tmp_path: Path, table: str, encoding: str, named: str
) -> None:
    rows, lines, notes = read(tmp_path / "a.csv", table.encode(encoding))
    assert rows == rows_of(table)
    assert lines == list(range(2, 2 + len(rows)))
    assert [note.kind for note in notes] == ["encoding"]
    assert f"read as {named}" in notes[0].message


def test_the_note_on_a_guess_has_a_confidence_and_the_first_line_concerned(tmp_path: Path) -> None:
    _, _, (note,) = read(tmp_path / "a.csv", ("text,label\nplain,x\n" + GERMAN[11:]).encode("cp1252"))
    assert note.where == f"{tmp_path}/a.csv:3"
    assert "confidence 1.00" in note.message


def test_other_encodings_that_fit_as_well_lower_the_confidence_and_are_named(tmp_path: Path) -> None:
    _, _, (note,) = read(tmp_path / "a.csv", FRENCH.encode("cp1252"))
    assert re.search(r"confidence 0\.[1-5]\d; it could also be .*cp1250", note.message)


def test_the_encoding_that_the_user_names_is_taken_without_a_note(tmp_path: Path) -> None:
    rows, _, notes = read(tmp_path / "a.csv", "text,label\nпривет,да\n".encode("koi8_r"), "koi8_r")
    assert (rows, notes) == ([("привет", "да")], [])


def test_one_encoding_is_used_for_a_file_of_several_blocks(tmp_path: Path) -> None:
    table = "text,label\n" + "plain,x\n" * 50_000 + "schön,gut\n" + "plain,x\n" * 50_000 + "größer,gut\n"
    rows, _, notes = read(tmp_path / "a.csv", table.encode("cp1252"))
    assert (rows[50_000], rows[-1]) == (("schön", "gut"), ("größer", "gut"))
    assert notes[0].where.endswith(":50002")


def test_a_character_may_lie_on_the_border_of_two_blocks(tmp_path: Path) -> None:
    table = "text,label\n" + "语," * 0 + "".join(f"{'x' * size}语,a\n" for size in range(1200))
    rows, _, notes = read(tmp_path / "a.csv", table.encode("utf-8"))
    assert (len(table.encode()) > 2 * 256 * 2**10, rows, notes) == (True, rows_of(table), [])


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            "text,label\nx,很好\n".encode("gbk"),
            r"a\.csv:2: byte 3 .* is not UTF-8, and it could be .*--encoding",
        ),
        ("text,label\nприве,x\n".encode("cp1251"), r"a\.csv:2: byte 1 .*it could be .*--encoding"),
        (
            "text,label\nschön groß,x\n".encode() + b"sch\xf6n,x\n",
            r"a\.csv:3: byte 4 \(0xf6\).*mixes encodings",
        ),
        (
            ("text,label\n" + "schön,x\n" * 40_000).encode() + b"sch\xf6n,x\n",
            r"a\.csv:40002: byte 4 \(0xf6\) is not UTF-8, although the text before is; .*--encoding",
        ),
        (
            b"text,label\n\x81\xfe\x81\xff\x00,x\n",
            r"a\.csv:2: byte 1 \(0x81\) is not UTF-8, and .*--encoding",
        ),
    ],
)
def test_a_file_without_a_clear_encoding_is_refused_with_the_option(
    tmp_path: Path, raw: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.csv", raw)


def test_a_byte_that_the_named_encoding_lacks_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.csv:3: byte 2 \(0x81\) is not cp1252; name its encoding"):
        read(tmp_path / "a.csv", b"text,label\na,x\nb\x81,x\n", "cp1252")


@pytest.mark.parametrize("encoding", ["utf9", "hex", "rot13", ""])
def test_an_unknown_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(UsageError, match=r"unknown encoding .*; expected a name such as utf-8"):
        read(tmp_path / "a.csv", b"text\na\n", encoding)


def test_gzipped_text_may_have_another_encoding(tmp_path: Path) -> None:
    rows, _, _ = read(tmp_path / "a.csv.gz", gzip.compress(GERMAN.encode("cp1252")))
    assert rows == rows_of(GERMAN)


def test_cr_alone_ends_lines_where_there_is_no_lf(tmp_path: Path) -> None:
    rows, lines, notes = read(tmp_path / "a.csv", b"text,label\rone,x\rtwo,y\r")
    assert (rows, lines) == ([("one", "x"), ("two", "y")], [2, 3])
    assert [note.kind for note in notes] == ["line-ends"]


def test_byte_order_marks_of_files_that_were_joined_are_removed_with_a_note(tmp_path: Path) -> None:
    raw = b"\xef\xbb\xbf\xef\xbb\xbftext,label\na,x\n\xef\xbb\xbfb,y\n"
    rows, _, (note,) = read(tmp_path / "a.csv", raw)
    assert rows == [("a", "x"), ("b", "y")]
    assert (note.kind, note.count, note.where) == ("byte-order-marks", 1, f"{tmp_path}/a.csv:3")


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (
            b"PK\x03\x04\x14\0\x06\0[Content_Types].xml\0xl/workbook.xml",
            "an Excel workbook \\(.xlsx\\); save it as CSV",
        ),
        (b"PK\x03\x04\x14\0\x06\0[Content_Types].xml\0word/document.xml", "a Word document"),
        (b"PK\x03\x04\x14\0\x06\0a.csv", "a zip archive; extract it"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an Excel workbook \\(.xls\\)"),
        (b"PAR1\x15\x04", "a Parquet file; give it the suffix .parquet"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\x28\xb5\x2f\xfd\x04", "compressed with zstd"),
        (gzip.compress(b"a.txt" + b"\0" * 252 + b"ustar\0", mtime=0), "a tar archive"),
    ],
)
def test_a_binary_file_is_refused_by_name(tmp_path: Path, raw: bytes, what: str) -> None:
    for name in ("a.csv", "a.xlsx"):
        with pytest.raises(DataError, match=rf"{name}: is not a text file: this is {what}"):
            read(tmp_path / name, raw)


def test_utf_16_by_name_needs_a_byte_order_mark(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"a\.csv:1: .*does not start with BOM; name its encoding, such as utf-16-le"
    ):
        read(tmp_path / "a.csv", "text,label\na,x\n".encode("utf-16-le"), "utf-16")
