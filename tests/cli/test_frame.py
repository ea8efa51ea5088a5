"""What becomes of a command's failure: one line, a traceback, or silence."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

FAIL = "from onetrunk.core.errors import UsageError\nraise UsageError('rank 0 is too low; give at least 1')"


def test_an_expected_failure_is_one_line_and_exit_code_1(site: Any, adapters: Any) -> None:
    site.install("beta", command=FAIL)
    done = adapters("do-beta")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: rank 0 is too low; give at least 1\n"


@pytest.mark.parametrize("arguments", [("--traceback", "do-beta"), ("do-beta",)])
def test_traceback_shows_where_an_expected_failure_arose(
    site: Any, adapters: Any, arguments: tuple[str, ...]
) -> None:
    site.install("beta", command=FAIL)
    done = adapters(*arguments, ONETRUNK_TRACEBACK="" if "--traceback" in arguments else "1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "beta_command.py" in done.stderr


@pytest.mark.parametrize("error", ["ValueError", "EOFError", "BrokenPipeError"])
def test_a_bug_keeps_its_traceback(site: Any, adapters: Any, error: str) -> None:
    site.install("beta", command=f"raise {error}(32, 'a bug')")
    done = adapters("do-beta")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert re.search(rf"{error}: .*32.*a bug", done.stderr)


def test_escape_sequences_in_an_error_are_shown_not_obeyed(site: Any, adapters: Any) -> None:
    site.install("beta", command=FAIL.replace("rank 0", r"file \x1b[31m\n\u202e"))
    assert adapters("do-beta").stderr.startswith(r"error: file \x1b[31m\n\u202e is too low")


def test_escape_sequences_in_arguments_are_shown_not_obeyed(adapters: Any) -> None:
    done = adapters("--\x1b[31m")
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert r"\x1b[31m" in done.stderr


def test_wrong_usage_is_exit_code_2(adapters: Any) -> None:
    done = adapters("plugins", "--nonsense")
    assert done.returncode == 2
    assert "No such option" in done.stderr


def test_ctrl_c_is_exit_code_130_and_one_line(site: Any, adapters: Any) -> None:
    site.install("beta", command="raise KeyboardInterrupt")
    done = adapters("do-beta")
    assert done.returncode == 130
    assert done.stderr.strip() == "interrupted"


def test_a_prompt_answered_with_no_is_exit_code_1(site: Any, adapters: Any) -> None:
    site.install("beta", command="raise click.Abort")
    done = adapters("do-beta")
    assert (done.returncode, done.stderr) == (1, "aborted\n")


def test_an_exit_code_of_a_command_is_kept(site: Any, adapters: Any) -> None:
    site.install("beta", command="click.get_current_context().exit(7)")
    assert adapters("do-beta").returncode == 7


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("printing", ["click.echo('x')", "print('x')"])
def test_a_reader_that_goes_away_ends_the_command_quietly(site: Any, printing: str, unbuffered: str) -> None:
    site.install("beta", command=f"for _ in range(100_000):\n    {printing}")
    environment = site.environment(PYTHONUNBUFFERED=unbuffered)
    line = [sys.executable, "-m", "onetrunk.cli.main", "do-beta"]
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        complaint = process.stderr.read()
    assert complaint == b""
    assert process.returncode == 141


def test_a_command_of_a_plugin_that_does_not_load_names_the_plugin(site: Any, adapters: Any) -> None:
    site.install("beta")  # the module of its command does not exist
    done = adapters("do-beta")
    assert done.returncode == 1
    assert done.stderr.startswith("error: command 'do-beta' of plugin beta (beta-dist 1.2): beta_command:")
    assert done.stderr.count("\n") == 1


def test_text_that_an_old_encoding_cannot_express_is_escaped(site: Any, adapters: Any) -> None:
    site.install("beta", command="click.echo('\\u6771')")
    done = adapters("do-beta", PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert (done.returncode, done.stdout) == (0, "\\u6771\n")


def test_json_is_utf_8_whatever_the_encoding_of_stdout(site: Any, adapters: Any) -> None:
    lines = "from onetrunk.cli.output import emit_json\nemit_json({'caf\\u00e9': '\\u6771'})"
    site.install("beta", command=lines)
    done = adapters("do-beta", PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert done.stdout == '{"café": "東"}\n'
