"""`load_unlabelled`: texts to predict from files, pipes and stdin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from onetrunk.core.data.texts import TextRecord, load_unlabelled
from onetrunk.core.errors import DataError
from tests.core.data.sample_tasks import jsonl, write


def test_plain_text_gives_one_text_per_line_and_keeps_empty_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "one\r\n\n  three\u2028\n")
    assert list(load_unlabelled(path)) == [
        TextRecord("one", {}, f"{path}:1"),
        TextRecord("", {}, f"{path}:2"),
        TextRecord("  three\u2028", {}, f"{path}:3"),
    ]


def test_jsonl_keeps_the_other_keys(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"id": 7, "text": "x"}])
    assert list(load_unlabelled(path)) == [TextRecord("x", {"id": 7}, f"{path}:1")]


def test_a_pipe_is_plain_text(tmp_path: Path) -> None:
    pipe = tmp_path / "63"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", 'printf "a\\n\\n{\\n" > "$0"', pipe]):
        assert [each.text for each in load_unlabelled(pipe)] == ["a", "", "{"]


def test_stdin_is_plain_text() -> None:
    program = (
        "from onetrunk.core.data.texts import load_unlabelled\n"
        "print([(r.text, r.where) for r in load_unlabelled('-')])"
    )
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, input="{a\nb", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[('{a', 'stdin:1'), ('b', 'stdin:2')]"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            '{"text": "x"}\n{"txt": "x"}\n',
            r'a\.jsonl:2: "text" must be a string; the record has: txt',
        ),
        ("a.jsonl", '{"text": 3}\n', r'a\.jsonl:1: "text" must be a string'),
        ("a.jsonl", "{}\n", r"the record has: nothing"),
        ("a.txt", "", r"a\.txt: is empty; expected one text per line"),
    ],
)
def test_a_record_without_a_text_is_reported_with_its_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        list(load_unlabelled(write(tmp_path / name, content)))


def test_reading_files_imports_no_torch() -> None:
    program = "import sys, onetrunk.core.data.dataset; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
