"""Output files appear whole or not at all."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from onetrunk.cli.streams import whole_file


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with suppress(EOFError), whole_file(tmp_path / "f") as file:
        file.write("half")
        raise EOFError
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    with whole_file(tmp_path / "link") as file:
        file.write("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_a_device_is_written_directly() -> None:
    with whole_file(Path("/dev/null")) as file:
        file.write("x")
    assert Path("/dev/null").is_char_device()
