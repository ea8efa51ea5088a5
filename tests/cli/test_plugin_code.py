"""Commands over a plugin that fails on some texts, and prints: clear lines on stderr, results alone on stdout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.stock import mood_records, write_lines

PLUGIN = """
from dataclasses import replace
from onetrunk.core.tasks.hookspecs import hookimpl
from onetrunk.plugins.sentiment import SPEC

def read(record):
    print("reading")
    return SPEC.read(record)

def decode(example, logits, labels, settings):
    print("decoding")
    if "boom" in example.text:
        raise KeyError("boom")
    if "odd" in example.text:
        return {"label": "x", "seen": {1, 2}}
    return SPEC.decode(example, logits, labels, settings)

@hookimpl
def tasks():
    print("offering")
    return [replace(SPEC, name="fragile", read=read, decode=decode)]
"""

TRAIN = ("--train", "rows.jsonl", "--dev", "rows.jsonl", "--epochs", 1, "--precision", "fp32")


@pytest.fixture
def fragile(site: Any, run: Any, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return (command, its arguments) → its result, where an adapter of the task `fragile` is stored."""
    site.install("fragile", PLUGIN)
    monkeypatch.syspath_prepend(str(site.folder))
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "rows.jsonl", mood_records(0, 20))

    def call(command: str, *arguments: object) -> Any:
        return run(command, "fragile", *arguments, "--backbone", backbone)

    done = call("train", *TRAIN)
    assert done.exit_code == 0, done.output
    return call


def test_a_text_that_a_decoder_fails_on_is_told_with_file_and_line(fragile: Any, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "mails.jsonl", [{"text": "good"}, {"text": "bad"}, {"text": "boom"}])
    done = fragile("predict", "--input", file, "--json")
    assert done.exit_code == 1
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["good", "bad"]
    fault = f"error: {file}:3: adapter fragile@1 fails on 'boom': task 'fragile': decode raises KeyError: 'boom' ("
    assert done.stderr.splitlines()[-1].startswith(fault)


@pytest.mark.parametrize("form", [("--json",), ()])
def test_an_answer_that_is_not_json_is_told_with_its_text(fragile: Any, form: tuple[str, ...]) -> None:
    done = fragile("predict", "good", "odd", *form)
    assert done.exit_code == 1
    where = "error: text 2: adapter fragile@1 fails on 'odd'"
    fault = f"{where}: decode returns a value that has a set, which is not JSON"
    assert done.stderr.splitlines()[-1].startswith(fault)


def test_nothing_is_written_of_an_output_that_cannot_be_whole(fragile: Any, tmp_path: Path) -> None:
    done = fragile("predict", "good", "boom", "--output", tmp_path / "out.jsonl")
    assert done.exit_code == 1
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (("predict", "good"), "decoding"),
        (("eval", "--data", "rows.jsonl"), "reading"),
        (("train", *TRAIN, "--from", "fragile@1"), "reading"),
    ],
)
def test_what_a_plugin_prints_leaves_stdout_to_the_results(
    fragile: Any, arguments: tuple[object, ...], printed: str
) -> None:
    done = fragile(*arguments, "--json")
    assert done.exit_code == 0, done.output
    assert all(isinstance(json.loads(line), dict) for line in done.stdout.splitlines())
    assert {"offering", printed} <= {*done.stderr.splitlines()}
    assert printed not in fragile(*arguments).stdout
