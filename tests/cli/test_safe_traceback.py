"""Tracebacks on the terminal have no token and no control characters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from onetrunk.cli.output import safe_traceback


def traced(message: str) -> str:
    try:
        raise ValueError(message)
    except ValueError as error:
        return safe_traceback(error)


@pytest.mark.parametrize(
    ("message", "secret"),
    [
        ("the Hub said hf_abcdefghijklmnop: no", "hf_abcdefghijklmnop"),
        ("headers {'Authorization': 'Bearer abc.def-ghi'}", "abc.def-ghi"),
        ("https://user:pass-word@example.org/x", "pass-word"),
        ("?token=abcdefghijkl&x=1", "abcdefghijkl"),
    ],
)
def test_a_token_in_a_message_is_hidden(message: str, secret: str) -> None:
    text = traced(message)
    assert "ValueError: " in text
    assert secret not in text.replace(message, "")
    assert secret not in text
    assert "[hidden]" in text


def test_a_token_of_the_environment_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "quite-a-secret")
    assert "quite-a-secret" not in traced("it was quite-a-secret")


def test_control_characters_are_escapes() -> None:
    text = traced("\x1b[31mred\x07 \u202e")
    assert "\\x1b[31mred\\x07 \\u202e" in text
    assert "\x1b" not in text


def test_the_option_prints_the_traceback_of_an_expected_error_safely(tmp_path: Path) -> None:
    environment = {**os.environ, "ONETRUNK_HOME": str(tmp_path), "HF_TOKEN": "a-token-of-some-length"}
    line = [sys.executable, "-m", "onetrunk.cli.main", "--traceback", "show", "a-token-of-some-length\x1b[0m"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done
    assert "Traceback (most recent call last):" in done.stderr
    assert "a-token-of-some-length" not in done.stderr
    assert "\x1b" not in done.stderr
