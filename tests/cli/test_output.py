"""What is printed cannot move a terminal, and loses nothing."""

from __future__ import annotations

import io
import json
import unicodedata
from contextlib import redirect_stdout

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.cli.output import emit_json, printable, table

ANY_TEXT = st.text(st.characters(codec=None) | st.sampled_from("\x1b\x7f\x9b\n\r\u202e\u2066\ud800"))


def is_unsafe(sign: str) -> bool:
    if unicodedata.category(sign) in {"Cc", "Cs", "Zl", "Zp"}:
        return True
    return unicodedata.bidirectional(sign) in ["LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"]


@given(ANY_TEXT)
def test_printable_text_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    assert not any(map(is_unsafe, printable(text)))


@given(ANY_TEXT)
def test_safe_text_stays_as_it_is(text: str) -> None:
    safe = "".join(sign for sign in text if not is_unsafe(sign))
    assert printable(safe) == safe


def test_kept_signs_are_not_escaped() -> None:
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


@given(st.recursive(ANY_TEXT | st.integers() | st.booleans() | st.none(), st.lists))
def test_json_is_one_safe_line_of_utf_8_that_reads_back_the_same(value: object) -> None:
    raw = io.BytesIO()
    with redirect_stdout(io.TextIOWrapper(raw, encoding="ascii", write_through=True)) as stdout:
        emit_json(value)
    line = raw.getvalue().decode("utf-8")
    stdout.detach()
    assert line.endswith("\n")
    assert not any(map(is_unsafe, line[:-1]))
    assert json.loads(line) == value


def test_json_refuses_what_json_does_not_know() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        emit_json({"loss": float("nan")})


def test_a_table_does_not_wrap_or_read_markup_where_no_terminal_reads(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "[red]" + "x" * 500
    table(["[b]name\x1b", "n"], [(long, 1), ("y\x1b", 22)], right=["n"])
    lines = capsys.readouterr().out.splitlines()
    cells = [line.split() for line in lines if "─" not in line]
    assert cells == [[r"[b]name\x1b", "n"], [long, "1"], [r"y\x1b", "22"]]
