"""Files that appear at once, and folders that are moved to their place."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from onetrunk.adapters.format.files import move_folder, replace, replacing


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["f"]


def test_after_an_error_the_old_file_is_there_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(TypeError, match="bytes-like"), replacing(path) as file:
        file.write("new")  # type: ignore[call-overload]
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_a_file_never_has_more_permissions_than_it_is_given(tmp_path: Path) -> None:
    with replacing(tmp_path / "f", mode=0o640) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640


def test_a_name_of_the_longest_length_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / ("f" * 255)
    replace(path, b"new")
    assert path.read_bytes() == b"new"


def test_the_next_replacement_deletes_what_a_crash_has_left(tmp_path: Path) -> None:
    (tmp_path / ".f.0123abcd.part").write_bytes(b"half")
    replace(tmp_path / "f", b"new")
    assert os.listdir(tmp_path) == ["f"]


def test_a_folder_is_moved_onto_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "f").write_bytes(b"x")
    (tmp_path / "to").mkdir()
    move_folder(tmp_path / "from", tmp_path / "to")
    assert (tmp_path / "to" / "f").read_bytes() == b"x"
    assert os.listdir(tmp_path) == ["to"]


def test_a_folder_is_never_moved_onto_one_that_holds_something(tmp_path: Path) -> None:
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    with pytest.raises(OSError, match="not empty"):
        move_folder(tmp_path / "from", tmp_path / "to")
    assert (tmp_path / "to" / "f").read_text() == "to"
