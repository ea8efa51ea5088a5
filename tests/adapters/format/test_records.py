"""Records of JSON and TOML: what is wrong is told whole, with its place, and nothing wrong gets in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest

from onetrunk.adapters.format.files import FileFault
from onetrunk.adapters.format.records import (
    MAX_KEYS,
    MAX_TOML_BYTES,
    SECRET_TOML_STYLE,
    TOML_STYLE,
    Count,
    FaultStyle,
    RecordFault,
    Strings,
    Text,
    closed,
    load_toml,
    matching,
    read,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    size: Count
    share: float = 0.5


@closed
@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    name: Text
    parts: Mapping[Annotated[str, matching("[a-z]+", "letters")], Part]
    words: Strings = ("one",)
    spare: Part | None = None
    more: tuple[Part, ...] = ()
    free: Mapping[str, Any] = field(default_factory=dict)


SOUND = {"name": "x", "parts": {"a": {"size": 1}}}


def faults(change: Mapping[str, object], words: FaultStyle = TOML_STYLE) -> list[str]:
    with pytest.raises(RecordFault, match=r"\w") as caught:
        read(Whole, {**SOUND, **change}, words)
    return caught.value.faults


def test_a_sound_value_is_a_record_of_records() -> None:
    found = read(Whole, {**SOUND, "words": ["a", "b"], "more": [{"size": 2, "share": 1}], "free": {"k": [1]}})
    assert found.parts == {"a": Part(size=1)}
    assert (found.words, found.more) == (("a", "b"), (Part(size=2, share=1.0),))
    assert found.free == {"k": [1]}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"name": ""}, "name must have at least 1 character, not ''"),
        ({"name": 3}, "name must be a string, not 3"),
        ({"parts": {"a": {"size": True}}}, "parts.a.size must be a whole number, not True"),
        ({"parts": {"a": {"size": 1.0}}}, "parts.a.size must be a whole number, not 1.0"),
        ({"parts": {"a": {"size": "1"}}}, "parts.a.size must be a whole number, not '1'"),
        ({"parts": {"a": {"size": 0}}}, "parts.a.size must be greater than or equal to 1, not 0"),
        ({"parts": {"a": {"size": 1, "share": True}}}, "parts.a.share must be a number, not True"),
        ({"parts": {"a": {}}}, "parts.a.size is missing"),
        ({"parts": {"A": {"size": 1}}}, "parts has the key 'A', which must be letters"),
        ({"parts": []}, "parts must be a table, not this list"),
        ({"parts": {"a": {"size": 1, "sise": 2}}}, "parts.a has the unknown key 'sise'; known: size, share"),
        ({"spare": {"size": 1, "x": 2}}, "spare has the unknown key 'x'; known: size, share"),
        ({"more": [{"size": 1, "x": 2}]}, "more.0 has the unknown key 'x'; known: size, share"),
        ({"nane": 1}, "has the unknown key 'nane'; known: name, parts, words, spare, more, free"),
        ({"words": []}, "words must have at least one item"),
        ({"words": ["a", 1, 2]}, "words.1 must be a string, not 1"),
        ({"words": "a"}, "words must be a list, not 'a'"),
    ],
)
def test_a_fault_is_told_with_its_place(change: dict[str, object], fault: str) -> None:
    assert faults(change) == [fault]


def test_all_faults_are_told_at_once() -> None:
    assert len(faults({"name": 1, "parts": {"a": {}, "b": 2}, "x": 1})) == 4


def test_of_many_faults_the_first_are_told_and_the_others_counted() -> None:
    told = faults({f"k{i}": 1 for i in range(100)})
    assert len(told) == 21
    assert told[-1] == "and 80 more"


def test_keys_beyond_all_sense_are_refused_before_each_is_told_of() -> None:
    assert faults({"parts": {f"k{i}": 1 for i in range(MAX_KEYS)}}) == [f"has more than {MAX_KEYS} keys"]


def test_words_for_secrets_tell_no_value() -> None:
    told = str(faults({"name": 123456789, "words": "hidden"}, SECRET_TOML_STYLE))
    assert "name must be a string, not a number" in told
    assert "hidden" not in told
    assert "123456789" not in told


def test_a_date_of_toml_is_read_as_text(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("name = 2026-01-31\nparts.a.size = 1\n")
    assert read(Whole, load_toml(file)).name == "2026-01-31"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"a = \xff", "is not UTF-8: .* at byte 4"),
        (b"a = 1\nb", "is not TOML: .*line 2|is not TOML: .*end of document"),
        (b"a = " + b"[" * 100_000, "is not TOML"),
        (b"#" * (MAX_TOML_BYTES + 1), "has over 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_toml_is_told_why(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "x.toml").write_bytes(data)
    with pytest.raises(FileFault, match=why):
        load_toml(tmp_path / "x.toml")


def test_help_loads_no_pydantic() -> None:
    program = "import sys; from onetrunk.cli.main import run; run(['-h']); print('pydantic' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert said.splitlines()[-1] == "False"
