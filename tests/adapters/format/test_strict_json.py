"""One reader of JSON: its rules hold for files, data sets, requests and answers."""

from __future__ import annotations

import pytest

from onetrunk.adapters.format.strict_json import JSONFault, decode_at, is_unicode, loads

UNSOUND = [
    (b'{"a": 1, "a": 2}', "has the key 'a' twice in one object"),
    (b"[NaN]", "has the number NaN, only finite ones"),
    (b"[1e999]", "has the number 1e999, which is too large"),
    (b"9" * 5000, "has a whole number with too many digits"),
    (b"[" * 100_000, "is nested deeper than 64 levels"),
]


@pytest.mark.parametrize(("data", "why"), UNSOUND, ids=[why for _, why in UNSOUND])
def test_what_another_reader_could_take_for_something_else_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(JSONFault, match=why):
        loads(data)
    with pytest.raises(JSONFault, match=why):
        decode_at("  " + data.decode(), 2)


def test_what_is_no_json_is_told_with_line_and_column() -> None:
    with pytest.raises(JSONFault, match=r"is not JSON: .* at line 2, column 1") as caught:
        loads(b'{"a":\n}')
    assert (caught.value.line, caught.value.column) == (2, 1)


def test_what_is_not_utf8_is_told_with_its_byte() -> None:
    with pytest.raises(JSONFault, match=r"is not UTF-8: .* at byte 1"):
        loads(b'"\xff"')


def test_a_value_within_a_text_is_read_with_its_end() -> None:
    assert decode_at('[{"a": 1.5}, 2]', 1) == ({"a": 1.5}, 11)


def test_half_a_surrogate_pair_is_left_to_those_who_need_it_whole() -> None:
    assert not is_unicode(loads(rb'"half \ud800"'))
    assert is_unicode(loads(rb'"\ud83d\ude42"'))
