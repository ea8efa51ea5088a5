"""Streams that are closed, full or taken away, and files that are replaced: one line, and nothing left behind."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onetrunk.cli.streams import whole_file
from onetrunk.core.errors import UsageError

Shell = Callable[..., subprocess.CompletedProcess[str]]

ADAPTERS = (sys.executable, "-m", "onetrunk.cli.main")
CLOSED = (
    "error: cannot write stdout: it is closed; redirect it to a file, or to /dev/null to discard the output\n"
)
FULL = "error: cannot write stdout: No space left on device; free some space, or write to another disk\n"

needs_full_device = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")


@pytest.fixture
def shell(stocked: Path) -> Shell:
    """Run `adapters` with arguments as a shell does that was told `how`, such as `>&-`."""

    def run(how: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        script = f'exec "$@" {how}' if how[:1] in "<>2" else how
        return subprocess.run(
            ["bash", "-c", script, "bash", *ADAPTERS, *map(str, arguments)],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture
def mood(backbone: Path) -> tuple[str, ...]:
    """A command line that predicts with the adapter `mood`; texts and options follow."""
    return ("predict", "mood", "--backbone", str(backbone), "--precision", "fp32")


@pytest.mark.parametrize("arguments", [("list",), ("list", "--json"), ("--help",), ("--version",)])
def test_a_closed_stdout_is_one_line(shell: Shell, arguments: tuple[str, ...]) -> None:
    done = shell(">&-", *arguments)
    assert (done.returncode, done.stderr) == (1, CLOSED)


def test_where_nothing_can_be_said_there_is_silence(shell: Shell) -> None:
    done = shell(">&- 2>&-", "list")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_a_command_that_prints_nothing_needs_no_stdout(shell: Shell, mood: Any, tmp_path: Path) -> None:
    done = shell(">&-", *mood, "good", "--output", tmp_path / "out.jsonl")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "out.jsonl").read_text().startswith('{"text": "good"')


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_a_closed_stdin_is_one_line_of_predict(shell: Shell, mood: Any, arguments: tuple[str, ...]) -> None:
    done = shell("<&-", *mood, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: stdin: is closed; pipe data into it, or name a file\n"


def test_a_closed_stdin_is_one_line_of_train(shell: Shell) -> None:
    done = shell("<&-", "train", "sentiment", "--train", "-")
    assert done.returncode == 1
    assert done.stderr == "error: stdin: is closed; pipe data into it, or name a file\n"


@needs_full_device
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [("list",), ("list", "--json"), ("--help",), ("plugins",)])
def test_a_full_disk_behind_stdout_is_one_line(
    shell: Shell, arguments: tuple[str, ...], unbuffered: str
) -> None:
    done = shell(">/dev/full", *arguments, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (1, FULL)


@needs_full_device
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_predictions_on_a_full_disk_are_one_line(shell: Shell, mood: Any, form: tuple[str, ...]) -> None:
    done = shell(">/dev/full", *mood, "good", *form)
    assert (done.returncode, done.stderr) == (1, FULL)


@needs_full_device
def test_a_full_device_as_output_is_one_line(shell: Shell, mood: Any) -> None:
    done = shell("2>&1", *mood, "good", "--output", "/dev/full")
    assert done.returncode == 1
    assert done.stdout == FULL.replace("stdout", "/dev/full")


def test_an_output_that_cannot_be_finished_leaves_what_was_there(
    shell: Shell, mood: Any, tmp_path: Path
) -> None:
    file = tmp_path / "out.jsonl"
    file.write_text("before")
    done = shell('ulimit -f 0; exec "$@"', *mood, "good", "--output", file)  # no file may grow
    assert (done.returncode, done.stderr) == (1, f"error: cannot write {file}: File too large\n")
    assert file.read_text() == "before"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o444])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "f"
    file.write_text("old")
    file.chmod(mode)
    with whole_file(file) as new:
        new.write("new")
    assert file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == mode


def test_nobody_else_can_read_a_private_file_while_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.touch(0o600)
    with whole_file(file):
        (aside,) = tmp_path.glob(".f.*.part")
        assert aside.stat().st_mode & 0o777 == 0o600


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with whole_file(tmp_path / "f") as file:
        file.write("new")
    assert (tmp_path / "f").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_name_as_long_as_names_may_be_can_be_written(tmp_path: Path) -> None:
    with whole_file(tmp_path / ("東" * 85)) as file:
        file.write("new")
    assert (tmp_path / ("東" * 85)).read_text() == "new"


def test_a_link_that_leads_to_itself_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with (
        pytest.raises(UsageError, match=r"cannot write .*loop: Too many levels"),
        whole_file(tmp_path / "loop"),
    ):
        pass


@pytest.fixture(params=["forbidden", "long"])
def unseen(request: pytest.FixtureRequest, stocked: Path) -> tuple[str, dict[str, str]]:
    """A place that cannot be looked at, and what a message has of it."""
    if request.param == "long":
        why = {"why": "File name too long", "read": "cannot be read: File name too long"}
        return str(stocked.parent / ("x" * 300)), why
    folder: Path = request.getfixturevalue("forbidden")
    return str(folder / "x"), {"why": "Permission denied", "read": "permission denied; check"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("train", "sentiment", "--train"), "{place}: {read}"),
        (
            ("train", "sentiment", "--train", "{data}", "--backbone"),
            "backbone {place}: it cannot be read: {why};",
        ),
        (("eval", "mood", "--data"), "{place}: {read}"),
        (("predict", "mood", "good", "--output"), "cannot write {place}: {why};"),
        (("predict", "mood", "--input"), "{place}: {read}"),
    ],
)
def test_a_place_that_cannot_be_looked_at_is_one_line(
    run: Any, data: Path, unseen: tuple[str, dict[str, str]], line: tuple[str, ...], message: str
) -> None:
    where, why = unseen
    done = run(*(each.format(data=data / "mood") for each in line), where)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: " + message.format(place=where, **why))
    assert done.stderr.count("\n") == 1


def begin_output(mood: tuple[str, ...], file: Path, *before: str) -> subprocess.Popen[str]:
    """Start a prediction into `file` that waits for its second text; return when the file aside is there."""
    process = subprocess.Popen(
        [*before, *ADAPTERS, *mood, "-", "--output", str(file)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write("good\n")
    process.stdin.flush()
    ends = time.monotonic() + 60
    while not file.with_name("out.jsonl.partial").exists():
        assert time.monotonic() < ends
        time.sleep(0.01)
    return process


def test_sigterm_ends_with_143_and_leaves_nothing_behind(stocked: Path, mood: Any, tmp_path: Path) -> None:
    with begin_output(mood, tmp_path / "out.jsonl") as process:
        process.send_signal(signal.SIGTERM)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 143
    assert complaint.strip() == "terminated"
    assert not list(tmp_path.glob("*out.jsonl*"))


def test_a_sigterm_that_is_to_be_ignored_is_ignored(stocked: Path, mood: Any, tmp_path: Path) -> None:
    ignoring = ("sh", "-c", 'trap "" TERM; exec "$@"', "sh")
    with begin_output(mood, tmp_path / "out.jsonl", *ignoring) as process:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "out.jsonl").read_text().startswith('{"text": "good"')


def test_a_text_that_is_typed_is_answered_before_the_next_one(stocked: Path, mood: Any) -> None:
    keyboard, terminal = pty.openpty()
    line = [*ADAPTERS, *mood, "-", "--json"]
    with subprocess.Popen(line, stdin=terminal, stdout=subprocess.PIPE, text=True) as process:
        os.close(terminal)
        assert process.stdout is not None
        try:
            for text in ("good", "bad"):
                os.write(keyboard, f"{text}\n".encode())
                assert select.select([process.stdout], [], [], 60)[0], "no answer"
                assert process.stdout.readline().startswith(f'{{"text": "{text}"')
            os.write(keyboard, b"\x04")  # Ctrl-D
            assert process.wait(60) == 0
        finally:
            process.kill()
            os.close(keyboard)
