"""Progress on stderr where no terminal reads it."""

from __future__ import annotations

import re

import pytest

from onetrunk.cli.progress import TrainingProgress, counting


def test_a_traceback_keeps_its_lines_and_escapes_what_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with TrainingProgress({"mood": "f1"}) as progress:
        progress.say("mood", "failed:\nTraceback \x1b[2J" + "x" * 200)
    assert capsys.readouterr().err == "failed:\nTraceback \\x1b[2J" + "x" * 200 + "\n"


def test_without_a_terminal_a_line_is_printed_in_each_period(capsys: pytest.CaptureFixture[str]) -> None:
    with counting(3000, period=0.0) as advance:
        advance(1000)
        advance(500)
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"1,000 of 3,000 texts, \d+\.\d s, [\d,]+\.\d texts/s", first)
    assert second.startswith("1,500 of 3,000 texts, ")


def test_a_short_command_prints_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with counting(None) as advance:
        advance(1)
    assert capsys.readouterr().err == ""
