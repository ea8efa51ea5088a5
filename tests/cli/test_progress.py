"""Progress on stderr where no terminal reads it."""

from __future__ import annotations

import pytest

from onetrunk.cli.progress import TrainingProgress


def test_a_traceback_keeps_its_lines_and_escapes_what_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with TrainingProgress({"mood": "f1"}) as progress:
        progress.say("mood", "failed:\nTraceback \x1b[2J" + "x" * 200)
    assert capsys.readouterr().err == "failed:\nTraceback \\x1b[2J" + "x" * 200 + "\n"
